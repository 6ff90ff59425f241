// Package labelling scores the frames of a daemon's cameras against label sets that change while frames flow.
//
// [Labelling] knows which set each camera is to have: that of the configuration, or one that a command made. It has the text
// tower embed what is new and puts a set into force between two frames; until then, and after any failure, the set before
// serves. [Camera] is the part that every frame passes: it scores, follows which labels are present, tells what appeared and
// went, and lends the labels to the message of the frame. Nothing is allocated for a frame.
//
// Named regions of a frame are scored beside the pipeline, by the attention pool of the model, on the newest frame that there
// is when their turn comes; heat maps the same way, when a command asks for one.
package labelling
