// Package labels scores image embeddings against texts and follows what is present in a camera's view.
//
// # Words
//
// A [Label] has a name and texts, which are its prompts put through its templates ("a photo of a {}"). A [Set] is the labels
// of a camera. Somebody else's text tower embeds the set's texts; [Compile] makes each label a direction of them, the mean
// of its texts' embeddings, each brought to length 1 first. A [Score] is the cosine of that direction and the embedding of a
// picture, and what SigLIP makes of it: a logit and, by the sigmoid, a probability for this label alone. A [Tracker] turns the
// scores of frame after frame into an [Event] when a label appears or goes.
//
//	set := &labels.Set{Labels: []labels.Label{labels.Named("red box")}}
//	embeddings := embed(set.Texts())                    // the text tower, or a cache
//	c, err := labels.Compile(set, embeddings, scale, bias)
//	tracker := labels.NewTracker(c)
//	for frame := range frames {
//		scores = c.Score(scores, frame.Embedding)
//		for _, e := range tracker.Update(scores, moment(frame)) { … }
//	}
//
// # Where
//
// A [Region] is a named polygon in the frame. Its Mask, and the [Neighbourhood] of a cell, say which tokens the model's
// attention pool looks at; what the pool makes of them is an embedding like that of the frame and is scored in the same way.
//
// Two things about such an embedding are approximate. The features of a token are causal: they know the tokens before it in
// raster order, also those outside the region, and none after it. And the pool was trained on all tokens of a frame, never
// on some. With all cells it is the frame's embedding exactly.
//
// # Cost
//
// Score, Order, Changed, Update and Finish allocate nothing once their buffers have their size. A frame of 100 labels takes
// tens of microseconds, most of them for the products with directions of 1152 numbers. Nothing here does I/O or starts a
// goroutine.
package labels
