// Places for an array where a byte read or written beside it is noticed.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#define ZEROPOINT_TEST_HAS_GUARDS
#endif

namespace test {

/// Where an array lies:
///   heap   between the allocator's own bytes, which ASan and valgrind watch;
///   first  right behind a page that nobody may touch;
///   last   right before such a page.
enum class Place { heap, first, last };

class Memory {
public:
    /// `shift` bytes, a multiple of the element size, move the array away from the edge
    /// (or, on the heap, from its alignment).  Array and surroundings are filled with a pattern.
    Memory(std::size_t bytes, Place place, std::size_t shift = 0) : bytes_(bytes) {
#if defined(ZEROPOINT_TEST_HAS_GUARDS)
        if (place != Place::heap) {
            const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
            const std::size_t usable = (bytes + shift + margin + page - 1) / page * page;
            mapped_ = usable + 2 * page;
            void* all =
                mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (all == MAP_FAILED) throw std::bad_alloc();
            start_ = static_cast<unsigned char*>(all);
            unsigned char* const inside = start_ + page;
            if (mprotect(start_, page, PROT_NONE) != 0 ||
                mprotect(inside + usable, page, PROT_NONE) != 0)
                throw std::bad_alloc();
            data_ = place == Place::first ? inside + shift : inside + usable - bytes - shift;
            before_ = static_cast<std::size_t>(data_ - inside);
            after_ = usable - before_ - bytes;
            if (before_ > margin) before_ = margin;
            if (after_ > margin) after_ = margin;
            std::memset(data_ - before_, pattern, before_ + bytes + after_);
            return;
        }
#endif
        start_ = static_cast<unsigned char*>(std::malloc(bytes + shift + (bytes + shift == 0)));
        if (!start_) throw std::bad_alloc();
        data_ = start_ + shift;
        before_ = shift;
        std::memset(start_, pattern, bytes + shift);
    }
    ~Memory() {
#if defined(ZEROPOINT_TEST_HAS_GUARDS)
        if (mapped_) {
            munmap(start_, mapped_);
            return;
        }
#endif
        std::free(start_);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    unsigned char* data() const { return data_; }
    std::size_t size() const { return bytes_; }
    /// Whether the pattern is still there, on either side.
    bool surroundings_intact() const {
        return is_pattern(data_ - before_, before_) && is_pattern(data_ + bytes_, after_);
    }
    static bool is_pattern(const unsigned char* from, std::size_t n) {
        for (std::size_t i = 0; i < n; ++i)
            if (from[i] != pattern) return false;
        return true;
    }

private:
    static constexpr unsigned char pattern = 0xA5;
    static constexpr std::size_t margin = 256;  // bytes looked at on either side
    std::size_t bytes_, before_ = 0, after_ = 0, mapped_ = 0;
    unsigned char *start_ = nullptr, *data_ = nullptr;
};

}  // namespace test
