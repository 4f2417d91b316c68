# Flattens one JSON document to lines "path<TAB>value": {"a": {"b": [1, "x"]}} gives a/b/0<TAB>1 and a/b/1<TAB>x.
# A value is one line (line breaks and tabs become spaces); null is empty; empty objects and lists give nothing.
# Exits 1 on anything that is not JSON.

function fail() { failed = 1; exit 1 }

function space() { if (match(text, /^[ \t\r\n]+/)) text = substr(text, RLENGTH + 1) }

function take(wanted) {
    space()
    if (substr(text, 1, 1) != wanted) return 0
    text = substr(text, 2)
    return 1
}

# Takes a string whose opening quote is next: up to the first quote with an even number of backslashes before it.
function string(   raw, at) {
    if (!take("\"")) fail()
    raw = ""
    for (;;) {
        at = index(text, "\"")
        if (!at) fail()
        raw = raw substr(text, 1, at - 1)
        text = substr(text, at + 1)
        if (!match(raw, /\\+$/) || RLENGTH % 2 == 0) return unescape(raw)
        raw = raw "\""
    }
}

function unescape(raw,   out, at, kind, code, low) {
    out = ""
    while ((at = index(raw, "\\")) > 0) {
        out = out substr(raw, 1, at - 1)
        kind = substr(raw, at + 1, 1)
        if (kind == "u") {
            code = hex(substr(raw, at + 2, 4))
            raw = substr(raw, at + 6)
            if (code >= 55296 && code < 56320 && substr(raw, 1, 2) == "\\u") {
                low = hex(substr(raw, 3, 4))
                code = 65536 + (code - 55296) * 1024 + low - 56320
                raw = substr(raw, 7)
            }
            out = out utf8(code)
        } else {
            out = out (kind ~ /[nrtbf]/ ? " " : kind)
            raw = substr(raw, at + 2)
        }
    }
    out = out raw
    gsub(/[\t\r\n]/, " ", out)
    return out
}

function hex(digits,   i, sum) {
    sum = 0
    for (i = 1; i <= 4; i++) sum = sum * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
    return sum
}

function utf8(code) {
    if (code < 32) return " "
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
    return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64,
        128 + code % 64)
}

function value(path,   key, i, prefix) {
    prefix = path == "" ? "" : path "/"
    space()
    if (take("{")) {
        if (take("}")) return
        do {
            key = string()
            if (!take(":")) fail()
            value(prefix key)
        } while (take(","))
        if (!take("}")) fail()
    } else if (take("[")) {
        if (take("]")) return
        i = 0
        do value(prefix i++)
        while (take(","))
        if (!take("]")) fail()
    } else if (substr(text, 1, 1) == "\"") {
        print path "\t" string()
    } else if (match(text, /^(true|false|null|-?[0-9][0-9.eE+-]*)/)) {
        key = substr(text, 1, RLENGTH)
        text = substr(text, RLENGTH + 1)
        print path "\t" (key == "null" ? "" : key)
    } else fail()
}

{ text = text $0 "\n" }

END {
    if (failed) exit 1
    value("")
    space()
    if (text != "") exit 1
}
