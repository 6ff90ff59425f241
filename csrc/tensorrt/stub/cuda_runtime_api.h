/*
 * All that TensorRT's headers want of CUDA's: two handle types. With this the shim compiles on a machine
 * without a CUDA installation; the driver is opened at run time.
 */
#ifndef TOKLIP_STUB_CUDA_RUNTIME_API_H
#define TOKLIP_STUB_CUDA_RUNTIME_API_H

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

#endif
