// Package preprocess turns camera pixels into the network's input, with the
// bytes that Pillow's antialiased bicubic gives and in a fraction of its time.
//
// # Words
//
// A frame is pixels of some [Format] in memory, rows a stride apart. The output
// is a square of S x S pixels, RGB. A [Mode] says how one becomes the other:
// Squash, Shortest or Longest. Format, sizes and mode together are a [Geometry];
// a [Resizer] is built for one and used frame after frame. A [Mapping] leads
// back: from a cell of the token grid to a rectangle of the frame.
//
// # Shape
//
// The filter is Keys' cubic with a = -0.5, stretched by the scale when the
// picture shrinks, in two passes with 8 bits between them and coefficients of
// 22 bits, all as in Pillow's Resample.c. OpenCV's INTER_CUBIC does not stretch,
// aliases, and gives a network trained on Pillow's pixels something else.
// Pillow 13 changed the order of the passes for frames that lose much height;
// layout.verticalFirst has the rule. Coefficients are computed for the pixels
// that the output keeps, so a cropped part costs nothing.
//
// NV12 and YUYV become RGB as OpenCV does it (BT.601, limited range), just before
// the resampling reads them.
//
// A frame goes through in bands of rows that fit the cache: rows to a tile in
// which the lanes of a vector are rows; horizontal pass to blocks in which the
// lanes are columns; vertical pass to one row of output, which is normalised
// into the tensor while it is warm. kernels_amd64.go describes the layouts. There
// are three sets of inner loops, chosen in New by what the processor has: VNNI
// (AVX-512 VNNI and VL), AVX2, and portable Go, used on all other machines. Tests
// hold all three to the same bytes.
//
// # Use
//
// Nothing is allocated for a frame, and nothing outside the frame is read: a
// stride or buffer that does not fit the geometry is an error. A Resizer serves
// one goroutine at a time; give each camera its own.
package preprocess
