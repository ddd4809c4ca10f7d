# Flags of the resizing loops (resample.inc): one file an instruction set, so the program itself runs on any processor. Whole
# numbers only: every build gives the same bits.
set_source_files_properties(executor/prep/resample_base.c PROPERTIES COMPILE_OPTIONS "-O3")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(executor/prep/resample_avx2.c PROPERTIES COMPILE_OPTIONS "-O3;-mavx2")
endif()
