// A fully connected layer in int8: y = x w^T for float32 x [rows, depth] and w [units, depth].
//
//   pipeline x.npy w.npy y.npy
//
// The weights are quantized once, per unit and symmetric; the activations per tensor.  The dot
// products in int32 are the caller's own; zeropoint brings their sums back to 8 bits.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>
#include <zeropoint/zeropoint.hpp>

namespace {

struct Matrix {
    std::size_t rows, cols;
    std::vector<float> values;
};

// A 2-D little-endian float32 array in C order, from a .npy file of version 1.
Matrix read_npy(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const std::size_t start = 10;  // magic, version, length of the header
    if (bytes.size() < start || bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0)
        throw std::invalid_argument(path + " is not a .npy file of version 1");
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const std::size_t data = start + byte(8) + 256u * byte(9);
    const std::string header = bytes.substr(start, data - start);
    Matrix m{};
    const std::size_t shape = header.find("'shape': (");
    if (header.find("'descr': '<f4'") == std::string::npos || shape == std::string::npos ||
        header.find("'fortran_order': False") == std::string::npos ||
        std::sscanf(header.c_str() + shape, "'shape': (%zu, %zu)", &m.rows, &m.cols) != 2 ||
        bytes.size() != data + m.rows * m.cols * sizeof(float))
        throw std::invalid_argument(path + " does not hold a 2-D float32 array in C order");
    m.values.resize(m.rows * m.cols);
    std::memcpy(m.values.data(), bytes.data() + data, m.values.size() * sizeof(float));
    return m;
}

void write_npy(const std::string& path, const Matrix& m) {
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                         std::to_string(m.rows) + ", " + std::to_string(m.cols) + "), }";
    header.resize((10 + header.size() + 64) / 64 * 64 - 10 - 1, ' ');
    header += '\n';
    const char length[] = {static_cast<char>(header.size() % 256),
                           static_cast<char>(header.size() / 256)};
    std::ofstream file(path, std::ios::binary);
    file.write("\x93NUMPY\x01\x00", 8).write(length, 2) << header;
    file.write(reinterpret_cast<const char*>(m.values.data()),
               static_cast<std::streamsize>(m.values.size() * sizeof(float)));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void run(const std::string& x_path, const std::string& w_path, const std::string& y_path) {
    const Matrix x = read_npy(x_path), w = read_npy(w_path);
    if (x.cols != w.cols) throw std::invalid_argument("x and w differ in their second dimension");
    const std::size_t depth = x.cols, units = w.rows;

    // once: the weights
    zeropoint::Choice<std::int8_t> symmetric;
    symmetric.symmetric = true;
    std::vector<std::int8_t> qw(w.values.size());
    const zeropoint::AxisParams w_params =
        zeropoint::quantize_dynamic(w.values.data(), qw.data(), {units, depth}, 0, 0, symmetric);

    // the activations
    std::vector<std::int8_t> qx(x.values.size());
    const zeropoint::Params x_params =
        zeropoint::quantize_dynamic(x.values.data(), qx.data(), qx.size());

    // the caller's dot products
    std::vector<std::int32_t> acc(x.rows * units);
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t u = 0; u < units; ++u) {
            std::int32_t sum = 0;
            for (std::size_t k = 0; k < depth; ++k)
                sum += (qx[r * depth + k] - x_params.zero_point) * qw[u * depth + k];
            acc[r * units + u] = sum;
        }

    // one unit of a sum is worth acc_scale; the range of y would be known from calibration
    std::vector<double> acc_scale;
    for (const float s : w_params.scale)
        acc_scale.push_back(static_cast<double>(x_params.scale) * s);
    std::vector<float> real(acc.size());
    for (std::size_t i = 0; i < acc.size(); ++i)
        real[i] = static_cast<float>(acc[i] * acc_scale[i % units]);
    const zeropoint::Params y_params =
        zeropoint::choose_params<std::int8_t>(real.data(), real.size());

    // back to 8 bits, a scale a column; the next layer would take qy
    zeropoint::AxisParams per_unit;
    per_unit.scale.assign(units, y_params.scale);
    per_unit.zero_point = {y_params.zero_point};
    per_unit.qmin = y_params.qmin;
    per_unit.qmax = y_params.qmax;
    per_unit.axis = 1;
    const zeropoint::AxisRequantizer<std::int8_t> requantize(acc_scale, per_unit, {x.rows, units});
    std::vector<std::int8_t> qy(acc.size());
    requantize(acc.data(), qy.data());

    Matrix y{x.rows, units, std::vector<float>(qy.size())};
    zeropoint::dequantize(qy.data(), y.values.data(), qy.size(), y_params);
    write_npy(y_path, y);
    std::printf("%zu x %zu by %zu on %s: y scale %.9g, zero point %d\n", x.rows, depth, units,
                zeropoint::isa().c_str(), static_cast<double>(y_params.scale),
                static_cast<int>(y_params.zero_point));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: pipeline x.npy w.npy y.npy\n");
        return 2;
    }
    try {
        run(argv[1], argv[2], argv[3]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "pipeline: %s\n", error.what());
        return 1;
    }
    return 0;
}
