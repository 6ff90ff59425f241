// Package eval holds the arithmetic and the file formats of `toklip eval`: how
// good a model is at naming pictures (zero-shot classification), at finding the
// text of a picture and the picture of a text (retrieval), and at what the demo's
// held-out set asks.
//
// It computes figures of embeddings, scores and pixels that others made; it runs
// no network and reads no picture.
//
//	classes, err := eval.ReadClasses(file)             // folder<TAB>name, name
//	texts := eval.Fill(templates, classes[0].Names)    // "a photo of a tench."
//	z := eval.NewZeroShot(vectors)                     // a unit vector a class
//	rank, err := z.Add(class, embedding)               // picture after picture; none is kept
//	top1 := eval.Share(z.Total().Top1, z.Total().Pictures)
//
// # Ties
//
// Whoever ranks scores has to say what equal ones are worth. Here the order of the
// input decides, as a stable sort does: of equal scores the first comes first. A
// model that gives every picture the same embedding then scores what guessing would.
package eval
