#include "kernels/image.h"

#include "kernels/kernels.h"

#if defined(TOKLIP_KERNEL_IMAGE)

// The file's path and its architectures come from CMake. The assembler reads it, which is quicker than compiling an
// array of its size.
__asm__(
    ".section .rodata\n"
    ".balign 64\n"
    "toklip_kernel_image_begin:\n"
    ".incbin \"" TOKLIP_KERNEL_IMAGE
    "\"\n"
    "toklip_kernel_image_end:\n"
    ".byte 0\n"
    ".previous\n");

extern "C" {
extern const unsigned char toklip_kernel_image_begin[] __attribute__((visibility("hidden")));
extern const unsigned char toklip_kernel_image_end[] __attribute__((visibility("hidden")));
}

namespace toklip {

const void *kernel_image() { return toklip_kernel_image_begin; }
size_t kernel_image_size() { return static_cast<size_t>(toklip_kernel_image_end - toklip_kernel_image_begin); }
const char *kernel_architectures() { return TOKLIP_KERNEL_ARCHITECTURES; }

}  // namespace toklip

#else

namespace toklip {

const void *kernel_image() { return nullptr; }
size_t kernel_image_size() { return 0; }
const char *kernel_architectures() { return ""; }

}  // namespace toklip

#endif
