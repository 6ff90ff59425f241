// Package labels scores image embeddings against texts and follows what is present in the view of a camera.
package labels
