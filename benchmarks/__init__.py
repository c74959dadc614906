"""What this project costs, beside what else could be used: `make bench` measures it and writes docs/performance.md."""
