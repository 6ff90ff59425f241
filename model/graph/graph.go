// Package graph builds the networks of a TokLIP checkpoint as ONNX graphs.
//
// [Inspect] reads the architecture off the shapes of the checkpoint's tensors (grid, widths, depth,
// channel multipliers, codebook) and checks that every tensor the networks need is there with the
// right shape and none is left over. [Build] then streams weights and writes graphs:
//
//	tokenizer:         image float32[batch,3,S,S] -> ids int32[batch,N]
//	tokenizer.latents: image float32[batch,3,S,S] -> latents float32[batch,C,rows,cols], before normalisation
//	encoder:           ids int32[batch,N] -> features float32[batch,N,D], embedding float32[batch,E]
//	decoder:           ids int32[batch,N] -> image float32[batch,3,S,S], about [-1,1], not clipped
//	pool:              features float32[N,D], mask float32[regions,N] -> embedding float32[regions,E]: the encoder's end alone
//	text:              ids int32[batch,L] -> embedding float32[batch,E], not normalised
//
// The networks are those of TokLIP (arXiv 2505.05422): the VQ-16 tokenizer of LlamaGen (arXiv
// 2406.06525) and a SigLIP vision transformer (arXiv 2303.15343) with a causal mask over the tokens.
//
// # Forms
//
// Graphs use standard operators of opset 17 only, which TensorRT 8.5 and later and ONNX Runtime take alike: LayerNormalization is
// written out, because 8.5 lacks it, and both fuse it again. Element types are checked while graphs are built.
//
// Two are for ONNX Runtime alone: encoder.ort.onnx works causal attention off in bands and uses FastGelu, which
// takes 2 to 3 % off its processor time at 256 tokens; encoder.int8.onnx has quantised Linear layers besides. Tried in
// ONNX Runtime 1.30 on a CPU and left out: its MultiHeadAttention (no difference), SkipLayerNormalization (int8
// encoder 12 % slower with it), QuickGelu (its optimiser finds x·sigmoid(x) by itself).
//
// The others are for TensorRT. tokenizer.latents.onnx and tokenizer.fp16.onnx leave the search to a kernel of ours;
// encoder.fp16.onnx has fp16 products (precision.go), encoder.qdq.onnx int8 ones (qdq.go) whose ranges [Ranges] measures.
// TensorRT-RTX 1.7 was seen to fuse what they are written for: attention in one kernel a block (_gemm_mha_v2), casts into the norms,
// scale, swish and cast of a group norm into one kernel, GELU with the quantisation behind it.
//
// # Running them in ONNX Runtime
//
// Measured with version 1.30 at 256 px, fp32:
//
//   - Keep pre-packing on (the default). Weights are mapped from the data file, packed, and the mapping is given
//     back: the encoder stands at 1 777 MB for 1 697 MB of weights, process included.
//   - With session.disable_prepacking=1 the encoder loads in 0.1 s instead of 1.5 and its weights stay in the mapped
//     file, where the system can reclaim them; it runs 5 % slower. Right for a single run, as at import.
//   - Switch memory patterns off and keep the arena: tokenizer and encoder together stand at 2 022 MB instead of
//     2 193 MB, equally fast. Without the arena it is 1 904 MB between runs, but the tokenizer takes 15 to 25 % longer.
//   - The text tower runs with session.disable_prepacking=1 out of its file of 2 700 MB (fp16: 1 351 MB), of which 1 125 MB
//     (562 MB) are the token embeddings, where only rows are read. Eight texts at a time need 80 MB beside the mapped
//     pages (fp16: 122 MB), with a peak of 1 763 MB (938 MB) while memory is plenty; in a control group limited to 400 MB, page cache
//     included, it does the same work.
package graph
