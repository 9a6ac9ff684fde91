// Loops over pixels compiled a second time for CPUs with AVX2, which runs where the CPU has it.
#ifndef GRATICULE_DATA_TRANSFORMS_CLONES_H_
#define GRATICULE_DATA_TRANSFORMS_CLONES_H_

#if defined(__x86_64__) && defined(__linux__)
#define GRATICULE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define GRATICULE_CLONES
#endif

#endif  // GRATICULE_DATA_TRANSFORMS_CLONES_H_
