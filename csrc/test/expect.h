// The least that a test needs: conditions that say where they failed.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "core/error.h"

namespace toklip {

// Fails of this test program so far.
inline int &failures() {
  static int n = 0;
  return n;
}

#define EXPECT(condition)                                                          \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      toklip::failures()++;                                                        \
    }                                                                              \
  } while (false)

// body throws an Error of this code whose message has this part.
#define EXPECT_ERROR(want_code, part, body)                                                                      \
  do {                                                                                                           \
    bool expected_threw = false;                                                                                 \
    try {                                                                                                        \
      body;                                                                                                      \
    } catch (const toklip::Error &e) {                                                                           \
      expected_threw = true;                                                                                     \
      if (e.code() != (want_code) || std::string(e.what()).find(part) == std::string::npos) {                    \
        std::fprintf(stderr, "%s:%d: error %d \"%s\", want %d \"%s\"\n", __FILE__, __LINE__, e.code(), e.what(), \
                     static_cast<int>(want_code), part);                                                         \
        toklip::failures()++;                                                                                    \
      }                                                                                                          \
    }                                                                                                            \
    if (!expected_threw) {                                                                                       \
      std::fprintf(stderr, "%s:%d: no error: %s\n", __FILE__, __LINE__, #body);                                  \
      toklip::failures()++;                                                                                      \
    }                                                                                                            \
  } while (false)

struct Case {
  const char *name;
  void (*body)();
};

// Runs cases and tells which failed; the exit code.
template <size_t n>
int run_cases(const Case (&cases)[n]) {
  for (const Case &c : cases) {
    const int before = failures();
    try {
      c.body();
    } catch (const std::exception &e) {
      std::fprintf(stderr, "%s: threw %s\n", c.name, e.what());
      failures()++;
    }
    std::printf("%s %s\n", failures() == before ? "ok  " : "FAIL", c.name);
  }
  return failures() == 0 ? 0 : 1;
}

}  // namespace toklip
