# Finds TensorRT's headers and says which ABI family they are of.
#
#   TensorRTHeaders_INCLUDE_DIR   folder of NvInfer.h and NvOnnxParser.h
#   TensorRTHeaders_FAMILY        trt8, trt10, trt11 or rtx
#   TensorRTHeaders_VERSION       such as 10.3.0
#
# Looked for in TOKLIP_TRT_HEADERS, TENSORRT_ROOT/include, then where the packages of JetPack and Debian put them.
find_path(TensorRTHeaders_INCLUDE_DIR NvInfer.h HINTS "${TOKLIP_TRT_HEADERS}" NO_DEFAULT_PATH)
if(NOT TOKLIP_TRT_HEADERS)
  find_path(TensorRTHeaders_INCLUDE_DIR NvInfer.h
            HINTS "${TENSORRT_ROOT}" ENV TENSORRT_ROOT
            PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} /usr/include/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu /usr/include
                  /usr/local/tensorrt /usr/local/TensorRT
            PATH_SUFFIXES include)
endif()
mark_as_advanced(TensorRTHeaders_INCLUDE_DIR)

if(TensorRTHeaders_INCLUDE_DIR)
  # The macros are macros of macros in newer versions: the preprocessor reads them.
  file(WRITE "${CMAKE_BINARY_DIR}/tensorrt_version.cc" [=[
#include <NvInferVersion.h>
#ifdef TRT_MAJOR_RTX
toklip family rtx
#else
toklip family enterprise
#endif
toklip version NV_TENSORRT_MAJOR NV_TENSORRT_MINOR NV_TENSORRT_PATCH
]=])
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -E -P -I "${TensorRTHeaders_INCLUDE_DIR}" "${CMAKE_BINARY_DIR}/tensorrt_version.cc"
                  OUTPUT_VARIABLE _text ERROR_VARIABLE _errors RESULT_VARIABLE _result)
  if(NOT _result EQUAL 0)
    message(FATAL_ERROR "${TensorRTHeaders_INCLUDE_DIR}/NvInferVersion.h cannot be read: ${_errors}")
  endif()
  string(REGEX MATCH "toklip family ([a-z]+)" _ "${_text}")
  set(_kind "${CMAKE_MATCH_1}")
  if(NOT _text MATCHES "toklip version ([0-9]+) ([0-9]+) ([0-9]+)")
    message(FATAL_ERROR "${TensorRTHeaders_INCLUDE_DIR}/NvInferVersion.h has no version: ${_text}")
  endif()
  set(_major ${CMAKE_MATCH_1})
  set(TensorRTHeaders_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3}")
  if(_kind STREQUAL rtx)
    set(TensorRTHeaders_FAMILY rtx)
    if(TensorRTHeaders_VERSION VERSION_LESS 1.5 OR NOT _major EQUAL 1)
      message(FATAL_ERROR "TensorRT for RTX ${TensorRTHeaders_VERSION} in ${TensorRTHeaders_INCLUDE_DIR} is of another ABI. Use 1.5 or later.")
    endif()
  elseif(_major EQUAL 8 OR _major EQUAL 10 OR _major EQUAL 11)
    set(TensorRTHeaders_FAMILY trt${_major})
    if(TensorRTHeaders_VERSION VERSION_LESS 8.5)
      message(FATAL_ERROR "TensorRT ${TensorRTHeaders_VERSION} in ${TensorRTHeaders_INCLUDE_DIR} is too old. Use 8.5 (JetPack 5.1) or later.")
    endif()
  else()
    message(FATAL_ERROR "TensorRT ${TensorRTHeaders_VERSION} in ${TensorRTHeaders_INCLUDE_DIR} is of a family that toklip does not know: 8.5+, 10, 11 and RTX 1.5+ are known.")
  endif()
  if(NOT EXISTS "${TensorRTHeaders_INCLUDE_DIR}/NvOnnxParser.h")
    message(FATAL_ERROR "NvOnnxParser.h is missing in ${TensorRTHeaders_INCLUDE_DIR}. On JetPack: apt install libnvonnxparsers-dev")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRTHeaders REQUIRED_VARS TensorRTHeaders_INCLUDE_DIR VERSION_VAR TensorRTHeaders_VERSION)
