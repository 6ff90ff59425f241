package onnxruntime

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void trim(void) { malloc_trim(0); }
#else
static void trim(void) {}
#endif
*/
import "C"

// trim gives memory that the library has freed back to the system. glibc keeps what lies between blocks still in use: of
// the full-size model up to all of its weights (1.9 GB, seen), and more from one load to the next.
func trim() { C.trim() }
