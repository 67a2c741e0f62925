// A walk whose input and output have different orders in memory, in tiles of two axes that fit L1:
// each is read and written in rows, and transposed between the two.
#pragma once

#include <cstddef>

#include "layout.h"
#include "views.h"

namespace zeropoint::core {

class Tiles {
public:
    Tiles(const Walk&, const Stage* stages, std::size_t count) noexcept;
    /// How many tiles there are.
    std::size_t count() const noexcept { return count_ * across_tiles_ * along_tiles_; }
    void execute(std::size_t tile) noexcept;

private:
    static constexpr std::size_t bytes = 1 << 14;  // of a tile, transposed: with what it is read
                                                   // from and written to it fills half of L1
    static constexpr std::size_t slack = 16;       // the loop's vectors go beyond the last row

    void read_transposed(const char* in, char* out, std::size_t along, std::size_t across,
                         std::size_t parameter) noexcept;
    void write_transposed(const char* in, char* out, std::size_t along, std::size_t across,
                          std::size_t parameter) noexcept;
    void transpose(const char* from, std::ptrdiff_t from_row, std::size_t rows, char* to,
                   std::ptrdiff_t to_row, std::size_t cols) const noexcept;
    void run_rows(const char* in, std::ptrdiff_t in_row, char* out, std::ptrdiff_t out_row,
                  std::size_t rows, std::size_t cols, std::size_t parameter,
                  std::ptrdiff_t row_parameter, bool per_column) noexcept;

    const Walk& walk_;
    const Stage* stages_;
    std::size_t stage_count_, staged_, in_size_, out_size_, narrow_;
    std::size_t along_, across_;              // elements of a tile
    std::size_t along_tiles_, across_tiles_;  // tiles of the two axes
    std::size_t count_ = 1;                   // of pairs of them
    alignas(64) char tile_[bytes + slack];
    alignas(64) char rows_[bytes + slack];
    alignas(64) Buffers buffers_;
};

}  // namespace zeropoint::core
