# Tests of csrc/core, csrc/host, csrc/pipeline and csrc/abi; included by CMakeLists.txt.

# toklip_pipeline_program(NAME FILES...): a test program with a pipeline on the CPU in it.
function(toklip_pipeline_program name)
  add_executable(toklip_${name} ${ARGN} $<TARGET_OBJECTS:toklip_core> $<TARGET_OBJECTS:toklip_host>
                 $<TARGET_OBJECTS:toklip_cuda> $<TARGET_OBJECTS:toklip_kernels> $<TARGET_OBJECTS:toklip_pipeline>)
  target_link_libraries(toklip_${name} PRIVATE toklip_options)
  add_test(NAME ${name} COMMAND toklip_${name})
endfunction()

toklip_pipeline_program(pipeline_test pipeline_test.cpp pipeline_bench.cpp)
toklip_pipeline_program(pipeline_faults_test pipeline_faults_test.cpp pipeline_bench.cpp count_news.cpp)
toklip_pipeline_program(pipeline_threads_test pipeline_threads_test.cpp pipeline_bench.cpp)
toklip_pipeline_program(core_test core_test.cpp)

add_executable(toklip_abi_test abi_test.cpp small_model.cpp)
target_link_libraries(toklip_abi_test PRIVATE toklip_options toklip_trt_test)
add_test(NAME abi_test COMMAND toklip_abi_test)
