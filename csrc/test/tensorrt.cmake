# Tests of what csrc/tensorrt has that needs no TensorRT; included by CMakeLists.txt.
add_executable(toklip_progress_test progress_test.cpp "${CMAKE_SOURCE_DIR}/tensorrt/progress.cpp")
target_link_libraries(toklip_progress_test PRIVATE toklip_options)
add_test(NAME progress COMMAND toklip_progress_test)
