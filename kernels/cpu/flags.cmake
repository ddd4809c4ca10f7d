# Flags of the inner loops (kernels/cpu/vec.inc): one file an instruction set, so the program itself runs on any processor.
# Contraction to fused multiply-adds is on here only; a given build on a given processor still gives the same bits.
# -fno-trapping-math lets comparisons become masks: nobody reads the floating-point exception flags.
set(vec_common -O3 -fno-trapping-math)
set(vec_avx2 -mavx2 -mfma -ffp-contract=fast)
set(vec_avx512 -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma -mprefer-vector-width=512 -ffp-contract=fast)
set_source_files_properties(kernels/cpu/vec_base.c PROPERTIES COMPILE_OPTIONS "${vec_common}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(kernels/cpu/vec_avx2.c PROPERTIES COMPILE_OPTIONS "${vec_common};${vec_avx2}")
  set_source_files_properties(kernels/cpu/vec_avx512.c PROPERTIES COMPILE_OPTIONS "${vec_common};${vec_avx512}")
endif()
