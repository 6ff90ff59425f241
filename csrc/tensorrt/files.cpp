#include "tensorrt/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <system_error>

#include "core/error.h"

namespace toklip {
namespace tensorrt {
namespace {

[[noreturn]] void fail_file(const char *what, const std::string &path, int number) {
  throw Error(TOKLIP_TRT_FILE, std::string(what) + " " + path + ": " + std::generic_category().message(number) + ".");
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  int number() const { return number_; }
  int close() {
    int out = ::close(number_);
    number_ = -1;
    return out;
  }

 private:
  int number_;
};

}  // namespace

bool exists(const std::string &path) { return access(path.c_str(), F_OK) == 0; }

void check_readable(const std::string &path) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number() < 0) fail_file("read", path, errno);
  struct stat info{};
  if (fstat(file.number(), &info) != 0) fail_file("read", path, errno);
  if (!S_ISREG(info.st_mode)) throw Error(TOKLIP_TRT_FILE, "read " + path + ": it is not a file.");
}

std::vector<char> read_file(const std::string &path) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number() < 0) fail_file("read", path, errno);
  std::vector<char> out;
  char block[1 << 16];
  for (;;) {
    ssize_t n = read(file.number(), block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_file("read", path, errno);
    if (n == 0) return out;
    out.insert(out.end(), block, block + n);
  }
}

void write_file(const std::string &path, const void *data, size_t size) {
  std::string temporary = path + ".XXXXXX";
  Descriptor file(mkostemp(&temporary[0], O_CLOEXEC));
  if (file.number() < 0) fail_file("write", path, errno);
  try {
    const char *at = static_cast<const char *>(data);
    while (size > 0) {
      ssize_t n = write(file.number(), at, size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_file("write", path, errno);
      at += n;
      size -= static_cast<size_t>(n);
    }
    // mkostemp made it for the owner alone; plans and caches are no secrets.
    if (fchmod(file.number(), 0644) != 0) fail_file("write", path, errno);
    if (fsync(file.number()) != 0 || file.close() != 0) fail_file("write", path, errno);
    if (rename(temporary.c_str(), path.c_str()) != 0) fail_file("write", path, errno);
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
}

}  // namespace tensorrt
}  // namespace toklip
