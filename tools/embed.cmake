# cmake -DIN=file -DOUT=file.c -P embed.cmake: the bytes of a file as a C array, ft_descriptors.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <stddef.h>\nextern const unsigned char ft_descriptors[];\nextern const size_t ft_descriptors_size;\n"
  "const unsigned char ft_descriptors[] = {\n${bytes}\n};\nconst size_t ft_descriptors_size = sizeof ft_descriptors;\n")
