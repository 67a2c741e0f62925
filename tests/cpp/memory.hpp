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
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#if !defined(NOMINMAX)  // MinGW's libstdc++ defines it
#define NOMINMAX
#endif
#include <windows.h>
#define ZEROPOINT_TEST_HAS_GUARDS
#endif

namespace test {

/// Where an array lies:
///   heap   between the allocator's own bytes, which ASan and valgrind watch;
///   first  right behind a page that nobody may touch;
///   last   right before such a page.
enum class Place { heap, first, last };

#if defined(_WIN32)
inline std::size_t page_size() {
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    return system.dwPageSize;
}
inline void* pages(std::size_t bytes) {  // null where there are none
    return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
inline bool forbid(void* page, std::size_t bytes) {
    DWORD before;
    return VirtualProtect(page, bytes, PAGE_NOACCESS, &before) != 0;
}
inline void give_back(void* all, std::size_t) { VirtualFree(all, 0, MEM_RELEASE); }
#elif defined(ZEROPOINT_TEST_HAS_GUARDS)
inline std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
inline void* pages(std::size_t bytes) {
    void* all = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return all == MAP_FAILED ? nullptr : all;
}
inline bool forbid(void* page, std::size_t bytes) { return mprotect(page, bytes, PROT_NONE) == 0; }
inline void give_back(void* all, std::size_t bytes) { munmap(all, bytes); }
#endif

class Memory {
public:
    /// `shift` bytes, a multiple of the element size, move the array away from the edge
    /// (or, on the heap, from its alignment).  Array and surroundings are filled with a pattern.
    Memory(std::size_t bytes, Place place, std::size_t shift = 0) : bytes_(bytes) {
#if defined(ZEROPOINT_TEST_HAS_GUARDS)
        if (place != Place::heap) {
            const std::size_t page = page_size();
            const std::size_t usable = (bytes + shift + margin + page - 1) / page * page;
            mapped_ = usable + 2 * page;
            start_ = static_cast<unsigned char*>(pages(mapped_));
            if (!start_) throw std::bad_alloc();
            unsigned char* const inside = start_ + page;
            if (!forbid(start_, page) || !forbid(inside + usable, page)) throw std::bad_alloc();
            data_ = place == Place::first ? inside + shift : inside + usable - bytes - shift;
            before_ = static_cast<std::size_t>(data_ - inside);
            after_ = usable - before_ - bytes;
            if (before_ > margin) before_ = margin;
            if (after_ > margin) after_ = margin;
            std::memset(data_ - before_, pattern, before_ + bytes + after_);
            return;
        }
#else
        (void)place;
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
            give_back(start_, mapped_);
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
