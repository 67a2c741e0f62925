"""zeropoint beside the engines themselves: zero differences, and counts printed at the end."""
