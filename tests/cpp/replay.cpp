// zeropoint_replay FILE: runs the fuzzer's inputs in FILE, one a line, in hexadecimal; for
// compilers without libFuzzer.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size);

int main(int argc, char** argv) {
    std::ifstream file(argc == 2 ? argv[1] : "");
    if (!file) {
        std::fprintf(stderr,
                     "usage: zeropoint_replay FILE, of inputs in hexadecimal, one a line\n");
        return 2;
    }
    int inputs = 0;
    for (std::string line; std::getline(file, line); ++inputs) {
        std::vector<unsigned char> input;
        for (std::size_t i = 0; i + 1 < line.size(); i += 2)
            input.push_back(static_cast<unsigned char>(std::stoi(line.substr(i, 2), nullptr, 16)));
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::printf("%d passed, 0 failed\n", inputs);  // the first failure aborts
    return 0;
}
