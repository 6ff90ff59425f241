// Ids of tokens: comparison with the frame before, packing.
#pragma once

#include "kernels/hd.h"

namespace toklip {

// Words of 64 bits, one bit an id.
TOKLIP_HD int32_t mask_words(int32_t tokens) { return (tokens + 63) / 64; }

// Bytes of packed ids.
TOKLIP_HD int32_t packed_bytes(int32_t tokens, int32_t bits) {
  return static_cast<int32_t>((int64_t{tokens} * bits + 7) / 8);
}

// Byte at of packed ids: bit b of id i is bit (i*bits+b)%8 of byte (i*bits+b)/8. Ids are below 2^bits.
TOKLIP_HD uint8_t packed_byte(const int32_t *ids, int32_t tokens, int32_t bits, int32_t at) {
  const int64_t begin = int64_t{8} * at;
  auto i = static_cast<int32_t>(begin / bits);
  auto place = static_cast<int32_t>(i * int64_t{bits} - begin);  // of bit 0 of id i in this byte: 0 or below
  uint32_t byte = 0;
  for (; place < 8 && i < tokens; i++, place += bits) {
    const auto id = static_cast<uint32_t>(ids[i]);
    byte |= place < 0 ? id >> -place : id << place;
  }
  return static_cast<uint8_t>(byte);
}

}  // namespace toklip
