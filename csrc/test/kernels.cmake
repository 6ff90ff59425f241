# Tests of csrc/cuda and csrc/kernels; included by CMakeLists.txt.
option(TOKLIP_TRT_GPU_TESTS "Also build gpu_kernels, which needs a GPU when it runs" OFF)

# toklip_kernels_program(NAME FILES...): a test program with everything but TensorRT in it.
function(toklip_kernels_program name)
  add_executable(${name} ${ARGN} $<TARGET_OBJECTS:toklip_core> $<TARGET_OBJECTS:toklip_host> $<TARGET_OBJECTS:toklip_cuda>
                 $<TARGET_OBJECTS:toklip_kernels>)
  target_link_libraries(${name} PRIVATE toklip_options)
  target_compile_options(${name} PRIVATE -ffp-contract=off)
endfunction()

# Bytes in, bytes out: csrc/test/kernels compares it with package preprocess, Pillow's pictures and api's packing.
toklip_kernels_program(toklip_kernels_check kernels_check.cpp)

# libcuda for tests, with kernels.cu run by the CPU; and one as old drivers have it.
foreach(age new old)
  add_library(toklip_fake_cuda_${age} SHARED fake_cuda.cpp cuda_on_cpu.cpp kernels_on_cpu.cpp)
  target_compile_options(toklip_fake_cuda_${age} PRIVATE -ffp-contract=off)
  target_link_libraries(toklip_fake_cuda_${age} PRIVATE toklip_options)
  # Called as the target, and not libcuda.so: nobody shall take it for one.
  set_target_properties(toklip_fake_cuda_${age} PROPERTIES PREFIX "" SUFFIX "")
endforeach()
target_compile_definitions(toklip_fake_cuda_old PRIVATE TOKLIP_FAKE_OLD)

toklip_kernels_program(toklip_cuda_test cuda_test.cpp)
add_dependencies(toklip_cuda_test toklip_fake_cuda_new toklip_fake_cuda_old)
add_test(NAME cuda COMMAND toklip_cuda_test $<TARGET_FILE:toklip_fake_cuda_new> $<TARGET_FILE:toklip_fake_cuda_old>)

toklip_kernels_program(toklip_arithmetic_test arithmetic_test.cpp)
add_test(NAME arithmetic COMMAND toklip_arithmetic_test)

# Changes of the kernels are changes of what includes them.
set_source_files_properties(kernels_on_cpu.cpp PROPERTIES OBJECT_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/kernels.cu"
                            COMPILE_OPTIONS -Wno-unknown-pragmas)

if(TOKLIP_TRT_GPU_TESTS)
  toklip_kernels_program(toklip_gpu_kernels gpu_kernels.cpp)
endif()
