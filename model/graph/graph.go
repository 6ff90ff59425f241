// Package graph builds the networks of a TokLIP checkpoint as ONNX graphs.
//
// [Inspect] reads the architecture off the shapes of the checkpoint's tensors (grid, widths, depth,
// channel multipliers, codebook) and checks that every tensor the networks need is there with the
// right shape and none is left over. [Build] then streams weights and writes graphs:
//
//	tokenizer: image float32[batch,3,S,S] -> ids int32[batch,N]
//	encoder:   ids int32[batch,N] -> features float32[batch,N,D], embedding float32[batch,E]
//	decoder:   ids int32[batch,N] -> image float32[batch,3,S,S], about [-1,1], not clipped
//
// The networks are those of TokLIP (arXiv 2505.05422): the VQ-16 tokenizer of LlamaGen (arXiv
// 2406.06525) and a SigLIP vision transformer (arXiv 2303.15343) with a causal mask over the tokens.
package graph
