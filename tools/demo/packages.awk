# Debian's package lists as labelled texts: reads Packages files, then Translation files (the same `deb822` form), writes
# DIR/train.jsonl, DIR/test.jsonl and DIR/unseen.jsonl: {"text": title and description, "label": section, "id": package}.
# One document per (source, section), of sections with at least 80. The sections named in `unseen` are never trained on; of
# the others a fifth of the *sources* is for test, by a hash, so that siblings of a package stay together.
# Variables: dir, unseen (names between spaces), per_train, per_test, per_unseen: how many of a section at most.

function hash(text, i, h) {
    h = 7
    for (i = 1; i <= length(text); i++) {
        h = (h * 31 + index(" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz", substr(text, i, 1))) % 1000003
    }
    return (h * 7919) % 1000003
}
function json(text) {
    gsub(/["\\]/, "\\\\&", text)
    gsub(/\t/, " ", text)
    gsub(/[\001-\011\013-\037]/, "", text)
    gsub(/\n/, "\\n", text)
    return "\"" text "\""
}
function end_of_record(key) {
    if (package == "") {
        return
    }
    if (section != "") { # a package
        sub(/^.*\//, "", section)
        if (!((source, section) in seen)) {
            seen[source, section] = 1
            wanted[package " " md5] = section
            source_of[package] = source
        }
    } else if ((package " " md5) in wanted) { # its description
        key = wanted[package " " md5]
        delete wanted[package " " md5]
        count[key]++
        names[key, count[key]] = package
        texts[package] = text
    }
    package = source = section = md5 = text = ""
}
function write(file, label, name) {
    print "{\"id\": " json(name) ", \"label\": " json(label) ", \"text\": " json(texts[name]) "}" > (dir "/" file ".jsonl")
}
FNR == 1 { end_of_record() }
/^Package: / { package = $2; source = $2 }
/^Source: / { source = $2 }
/^Section: / { section = $2 }
/^Description-md5: / { md5 = $2 }
/^Description-en: / { text = substr($0, 17); long = 1; next }
/^ / { if (long) { line = substr($0, 2); text = text "\n" (line == "." ? "" : line) } next }
/^$/ { end_of_record() }
{ long = 0 }
END {
    end_of_record()
    for (label in count) {
        if (count[label] < 80) {
            continue
        }
        n = 0
        # by hash, so that a section's first letters are not all there is of it
        for (i = 1; i <= count[label]; i++) {
            order[i] = sprintf("%07d %s", hash(names[label, i]), names[label, i])
        }
        sort(order, count[label])
        used["train"] = used["test"] = used["unseen"] = 0
        most["train"] = per_train; most["test"] = per_test; most["unseen"] = per_unseen
        for (i = 1; i <= count[label]; i++) {
            name = substr(order[i], 9)
            file = index(" " unseen " ", " " label " ") ? "unseen" : hash(source_of[name]) % 5 == 0 ? "test" : "train"
            if (used[file] < most[file]) {
                used[file]++
                write(file, label, name)
            }
        }
    }
}
function sort(a, n, gap, i, j, x) { # Shell's
    for (gap = int(n / 2); gap > 0; gap = int(gap / 2)) {
        for (i = gap + 1; i <= n; i++) {
            x = a[i]
            for (j = i - gap; j >= 1 && a[j] > x; j -= gap) {
                a[j + gap] = a[j]
            }
            a[j + gap] = x
        }
    }
}
