/* monograph: read a bundle and embed texts with it. See monograph.h.
 *
 * Contents:
 *   1. Memory and errors        6. The graph's bytes (protobuf)      11. Word models: WordPiece, Unigram, BPE
 *   2. UTF-8 and Unicode        7. The manifest                      12. tokenizer.json
 *   3. SHA-256                  8. Vocabularies                      13. ONNX Runtime
 *   4. Files                    9. Regular expressions               14. Inference
 *   5. JSON                    10. Normalizers and pre-tokenizers    15. The public functions
 *
 * A bundle may come from a stranger: every byte of it is checked here before it is used.
 *
 * A failure anywhere leaves through `fail`, which jumps to the public function that was called. So nothing between the
 * two owns memory or handles by itself: memory is taken from an Arena, which its owner frees whole, and files are read
 * and closed in one function. Comments and error messages are those of the reference implementation's, in Python, where
 * the behaviour is.
 */
#define _GNU_SOURCE

#include "monograph.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnxruntime_c_api.h"
#include "unicode_tables.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ================================================ 1. Memory and errors ============================================ */

static _Thread_local char last_error[4096];
static _Thread_local monograph_status last_status;

/* Where a failure of one call of a public function ends. */
typedef struct {
    jmp_buf jump;
} Trap;

_Noreturn __attribute__((format(printf, 3, 4))) static void fail(Trap *trap, monograph_status status,
                                                                 const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    last_status = status;
    longjmp(trap->jump, 1);
}

/* Call a function; return whether it came to its end. What it changes lies outside of this function, as setjmp demands. */
static bool attempt(Trap *trap, void (*function)(void *), void *argument) {
    if (setjmp(trap->jump) != 0) {
        return false;
    }
    function(argument);
    return true;
}

typedef struct Block {
    struct Block *next;
    size_t size, used;
    _Alignas(max_align_t) char data[];
} Block;

/* Memory that is freed all at once. */
typedef struct {
    Block *blocks;
    Trap *trap;
} Arena;

enum { ARENA_BLOCK = 1 << 14 };

static void *take(Arena *arena, size_t size) {
    size_t needed = (size + 15) & ~(size_t)15;
    if (needed < size || needed > SIZE_MAX / 4) {
        fail(arena->trap, MONOGRAPH_MEMORY_ERROR, "out of memory");
    }
    Block *block = arena->blocks;
    if (block == NULL || block->size - block->used < needed) {
        size_t room = needed > ARENA_BLOCK / 4 ? needed : ARENA_BLOCK;
        block = malloc(sizeof *block + room);
        if (block == NULL) {
            fail(arena->trap, MONOGRAPH_MEMORY_ERROR, "out of memory (%zu bytes)", room);
        }
        block->size = room;
        block->used = 0;
        /* A block of one large thing goes behind the block that has room left. */
        if (arena->blocks != NULL && room == needed) {
            block->next = arena->blocks->next;
            arena->blocks->next = block;
        } else {
            block->next = arena->blocks;
            arena->blocks = block;
        }
    }
    void *memory = block->data + block->used;
    block->used += needed;
    return memory;
}

static void *take_array(Arena *arena, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / 8 / size) {
        fail(arena->trap, MONOGRAPH_MEMORY_ERROR, "out of memory");
    }
    return take(arena, count * size);
}

static void *take_zeros(Arena *arena, size_t count, size_t size) {
    void *memory = take_array(arena, count, size);
    memset(memory, 0, count * size);
    return memory;
}

#define NEW(arena, type, count) ((type *)take_array((arena), (count), sizeof(type)))
#define NEW_ZEROS(arena, type, count) ((type *)take_zeros((arena), (count), sizeof(type)))

static void free_arena(Arena *arena) {
    while (arena->blocks != NULL) {
        Block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

/* Return room for `more` in an array that grows by doubling; what it held moves. */
static void *grow(Arena *arena, void *items, size_t count, size_t more, size_t *capacity, size_t size) {
    if (*capacity - count >= more) {
        return items;
    }
    size_t wanted = *capacity == 0 ? 8 : *capacity * 2;
    while (wanted - count < more) {
        wanted *= 2;
    }
    void *moved = take_array(arena, wanted, size);
    if (count != 0) {
        memcpy(moved, items, count * size);
    }
    *capacity = wanted;
    return moved;
}

#define PUSH(arena, list, value)                                                                                       \
    do {                                                                                                               \
        (list).items = grow((arena), (list).items, (list).count, 1, &(list).capacity, sizeof *(list).items);           \
        (list).items[(list).count++] = (value);                                                                        \
    } while (0)

/* Bytes that need not end in a zero. */
typedef struct {
    const char *bytes;
    size_t length;
} String;

static String string_of(const char *text) { return (String){text, strlen(text)}; }

static bool same(String first, String second) {
    return first.length == second.length &&
           (first.length == 0 || memcmp(first.bytes, second.bytes, first.length) == 0);
}

static bool is(String string, const char *text) { return same(string, string_of(text)); }

static bool ends_with(String string, const char *suffix) {
    size_t length = strlen(suffix);
    return string.length >= length && memcmp(string.bytes + string.length - length, suffix, length) == 0;
}

static String copy_string(Arena *arena, String string) {
    char *bytes = NEW(arena, char, string.length + 1);
    if (string.length != 0) {
        memcpy(bytes, string.bytes, string.length);
    }
    bytes[string.length] = 0;
    return (String){bytes, string.length};
}

/* Bytes that are being written. */
typedef struct {
    char *items;
    size_t count, capacity;
} Buffer;

static void append(Arena *arena, Buffer *buffer, const char *bytes, size_t length) {
    if (length != 0) {
        buffer->items = grow(arena, buffer->items, buffer->count, length, &buffer->capacity, 1);
        memcpy(buffer->items + buffer->count, bytes, length);
        buffer->count += length;
    }
}

static void append_string(Arena *arena, Buffer *buffer, String string) {
    append(arena, buffer, string.bytes, string.length);
}

static String written(const Buffer *buffer) { return (String){buffer->count == 0 ? "" : buffer->items, buffer->count}; }

__attribute__((format(printf, 2, 3))) static char *format_text(Arena *arena, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = NEW(arena, char, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

/* Return foreign text in quotes, printable and short: an error is one line of a terminal. */
static const char *quote(Arena *arena, String text) {
    enum { MAX_QUOTED = 80 };
    Buffer buffer = {0};
    append(arena, &buffer, "'", 1);
    for (size_t i = 0; i < text.length && i < MAX_QUOTED; i++) {
        unsigned char byte = (unsigned char)text.bytes[i];
        char escaped[5];
        int length = snprintf(escaped, sizeof escaped, byte >= ' ' && byte < 0x7F ? "%c" : "\\x%02x", byte);
        append(arena, &buffer, escaped, (size_t)length);
    }
    append_string(arena, &buffer, string_of(text.length > MAX_QUOTED ? "...'" : "'"));
    append(arena, &buffer, "", 1);
    return buffer.items;
}

/* Everything that is wrong with a bundle, which is reported at once. */
typedef struct {
    Arena *arena;
    const char **items;
    size_t count, capacity;
} Problems;

enum { MAX_PROBLEMS = 32 };

__attribute__((format(printf, 2, 3))) static void note(Problems *problems, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < problems->count; i++) {
        if (strcmp(problems->items[i], text) == 0) {
            return;
        }
    }
    if (problems->count < MAX_PROBLEMS) {
        PUSH(problems->arena, *problems, copy_string(problems->arena, string_of(text)).bytes);
    }
}

static const char *joined(Problems *problems) {
    Buffer buffer = {0};
    for (size_t i = 0; i < problems->count; i++) {
        append_string(problems->arena, &buffer, string_of(i == 0 ? "" : "; "));
        append_string(problems->arena, &buffer, string_of(problems->items[i]));
    }
    append(problems->arena, &buffer, "", 1);
    return buffer.items;
}

static uint32_t read_little_endian(const char *content) {
    const unsigned char *bytes = (const unsigned char *)content;
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* ================================================ 2. UTF-8 and Unicode ============================================ */

/* Return the code point at the start of valid UTF-8, and its length. */
static uint32_t decode(const char *text, size_t *length) {
    const unsigned char *bytes = (const unsigned char *)text;
    if (bytes[0] < 0x80) {
        *length = 1;
        return bytes[0];
    }
    if (bytes[0] < 0xE0) {
        *length = 2;
        return (bytes[0] & 0x1Fu) << 6 | (bytes[1] & 0x3Fu);
    }
    if (bytes[0] < 0xF0) {
        *length = 3;
        return (bytes[0] & 0x0Fu) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu);
    }
    *length = 4;
    return (bytes[0] & 0x07u) << 18 | (bytes[1] & 0x3Fu) << 12 | (bytes[2] & 0x3Fu) << 6 | (bytes[3] & 0x3Fu);
}

/* Write a code point as UTF-8 to at least 4 bytes; return how many it takes. */
static size_t encode(uint32_t code, char *bytes) {
    if (code < 0x80) {
        bytes[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        bytes[0] = (char)(0xC0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        bytes[0] = (char)(0xE0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 0x3F));
        bytes[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    bytes[0] = (char)(0xF0 | code >> 18);
    bytes[1] = (char)(0x80 | (code >> 12 & 0x3F));
    bytes[2] = (char)(0x80 | (code >> 6 & 0x3F));
    bytes[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

static void append_code(Arena *arena, Buffer *buffer, uint32_t code) {
    char bytes[4];
    append(arena, buffer, bytes, encode(code, bytes));
}

/* Return whether bytes are UTF-8 as it is defined: no surrogates, nothing longer than needed. */
static bool is_utf8(String text) {
    const unsigned char *bytes = (const unsigned char *)text.bytes;
    for (size_t i = 0; i < text.length;) {
        unsigned char first = bytes[i++];
        if (first < 0x80) {
            continue;
        }
        int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        if (first < 0xC2 || first > 0xF4 || text.length - i < (size_t)more) {
            return false;
        }
        unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (bytes[i] < low || bytes[i] > high) {
            return false;
        }
        for (int k = 1; k < more; k++) {
            if ((bytes[i + (size_t)k] & 0xC0) != 0x80) {
                return false;
            }
        }
        i += (size_t)more;
    }
    return true;
}

/* Return whether a byte continues a character. */
static bool is_inner(char byte) { return (byte & 0xC0) == 0x80; }

static size_t count_characters(String text) {
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++) {
        count += !is_inner(text.bytes[i]);
    }
    return count;
}

/* Return where the character that ends at a place begins; 0 for the place 0. */
static size_t character_before(String text, size_t place) {
    while (place > 0 && is_inner(text.bytes[--place])) {
    }
    return place;
}

/* Set `place`, from `low` to `high`, to the first item for which `is_before`, an expression of `place`, is false. */
#define FIND_FIRST(place, low, high, is_before)                                                                        \
    do {                                                                                                               \
        size_t first_ = (low), end_ = (high);                                                                          \
        while (first_ < end_) {                                                                                        \
            (place) = first_ + (end_ - first_) / 2;                                                                    \
            if (is_before) {                                                                                           \
                first_ = (place) + 1;                                                                                  \
            } else {                                                                                                   \
                end_ = (place);                                                                                        \
            }                                                                                                          \
        }                                                                                                              \
        (place) = first_;                                                                                              \
    } while (0)

static bool in_ranges(const Range *ranges, size_t count, uint32_t code) {
    size_t place;
    FIND_FIRST(place, 0, count, ranges[place].last < code);
    return place < count && code >= ranges[place].first;
}

#define IN(table, code) in_ranges((table), COUNT_OF(table), (code))

static uint8_t value_of(const ValueRange *ranges, size_t count, uint32_t code) {
    size_t place;
    FIND_FIRST(place, 0, count, ranges[place].last < code);
    return place < count && code >= ranges[place].first ? ranges[place].value : 0;
}

static const Mapping *find_mapping(const Mapping *mappings, size_t count, uint32_t code) {
    size_t place;
    FIND_FIRST(place, 0, count, mappings[place].code < code);
    return place < count && mappings[place].code == code ? &mappings[place] : NULL;
}

static bool is_white_space(uint32_t code) { return IN(WHITE_SPACE, code); }

static size_t skip_space_left(String text, size_t place, size_t first) {
    while (place > first) {
        size_t start = character_before(text, place), length;
        if (start < first || !is_white_space(decode(text.bytes + start, &length))) {
            break;
        }
        place = start;
    }
    return place;
}

static size_t skip_space_right(String text, size_t place) {
    size_t length;
    while (place < text.length && is_white_space(decode(text.bytes + place, &length))) {
        place += length;
    }
    return place;
}

typedef struct {
    uint32_t *items;
    size_t count, capacity;
} Codes;

enum {
    HANGUL_FIRST = 0xAC00, HANGUL_COUNT = 11172, LEAD = 0x1100, VOWEL = 0x1161, TRAIL = 0x11A7,
    LEADS = 19, VOWELS = 21, TRAILS = 28,
};

static void push_decomposed(Arena *arena, Codes *codes, uint32_t code, bool compatible) {
    if (code < 0x80) {
        PUSH(arena, *codes, code);
        return;
    }
    if (code - HANGUL_FIRST < HANGUL_COUNT) {
        uint32_t syllable = code - HANGUL_FIRST;
        PUSH(arena, *codes, LEAD + syllable / (VOWELS * TRAILS));
        PUSH(arena, *codes, VOWEL + syllable % (VOWELS * TRAILS) / TRAILS);
        if (syllable % TRAILS != 0) {
            PUSH(arena, *codes, TRAIL + syllable % TRAILS);
        }
        return;
    }
    const uint32_t *pool = COMPATIBLE_POOL;
    const Mapping *mapping = compatible ? find_mapping(COMPATIBLE, COUNT_OF(COMPATIBLE), code) : NULL;
    if (mapping == NULL) {
        pool = CANONICAL_POOL;
        mapping = find_mapping(CANONICAL, COUNT_OF(CANONICAL), code);
    }
    if (mapping == NULL) {
        PUSH(arena, *codes, code);
        return;
    }
    for (size_t i = 0; i < mapping->count; i++) {
        PUSH(arena, *codes, pool[mapping->place + i]);
    }
}

static uint8_t combining_class(uint32_t code) {
    return code < 0x300 ? 0 : value_of(COMBINING_CLASS, COUNT_OF(COMBINING_CLASS), code);
}

/* Put each run of marks into the canonical order, by a stable sort of their classes. */
static void order_marks(Arena *arena, Codes *codes) {
    uint32_t *sorted = NULL;
    for (size_t start = 0; start < codes->count;) {
        if (combining_class(codes->items[start]) == 0) {
            start++;
            continue;
        }
        size_t end = start;
        uint8_t highest = 0;
        bool is_ordered = true;
        for (uint8_t class; end < codes->count && (class = combining_class(codes->items[end])) != 0; end++) {
            is_ordered = is_ordered && class >= highest;
            highest = class > highest ? class : highest;
        }
        if (!is_ordered) {
            /* Linear in the length of the run for each class: a run may be long. */
            sorted = sorted == NULL ? NEW(arena, uint32_t, codes->count) : sorted;
            size_t place = 0;
            bool present[256] = {false};
            for (size_t i = start; i < end; i++) {
                present[combining_class(codes->items[i])] = true;
            }
            for (unsigned class = 1; class <= highest; class++) {
                for (size_t i = start; present[class] && i < end; i++) {
                    if (combining_class(codes->items[i]) == class) {
                        sorted[place++] = codes->items[i];
                    }
                }
            }
            memcpy(codes->items + start, sorted, place * sizeof *sorted);
        }
        start = end;
    }
}

/* Return what two code points compose to, 0 for nothing. */
static uint32_t compose(uint32_t first, uint32_t second) {
    if (first - LEAD < LEADS && second - VOWEL < VOWELS) {
        return HANGUL_FIRST + ((first - LEAD) * VOWELS + (second - VOWEL)) * TRAILS;
    }
    if (first - HANGUL_FIRST < HANGUL_COUNT && (first - HANGUL_FIRST) % TRAILS == 0 && second - TRAIL - 1 < TRAILS - 1) {
        return first + (second - TRAIL);
    }
    size_t place;
    FIND_FIRST(place, 0, COUNT_OF(COMPOSITION),
               COMPOSITION[place].first < first ||
                   (COMPOSITION[place].first == first && COMPOSITION[place].second < second));
    const Composition *found = place < COUNT_OF(COMPOSITION) ? &COMPOSITION[place] : NULL;
    return found != NULL && found->first == first && found->second == second ? found->composed : 0;
}

static void compose_all(Codes *codes) {
    size_t retained = 0, starter = SIZE_MAX;
    uint8_t previous = 0;
    for (size_t i = 0; i < codes->count; i++) {
        uint32_t code = codes->items[i];
        uint8_t class = combining_class(code);
        bool is_adjacent = starter != SIZE_MAX && starter + 1 == retained;
        if (starter != SIZE_MAX && (is_adjacent || (previous < class && previous != 0))) {
            uint32_t composed = compose(codes->items[starter], code);
            if (composed != 0) {
                codes->items[starter] = composed;
                continue;
            }
        }
        if (class == 0) {
            starter = retained;
        }
        previous = class;
        codes->items[retained++] = code;
    }
    codes->count = retained;
}

/* The classes of UAX #29, in the order of CLUSTER_CLASSES in make_unicode_tables.py. */
enum { GCB_OTHER, GCB_CONTROL, GCB_EXTEND, GCB_ZWJ, GCB_SPACING, GCB_PREPEND, GCB_FLAG, GCB_L, GCB_V, GCB_T, GCB_LV,
       GCB_LVT };

/* Return the length in bytes of the grapheme cluster at the start of a text that is not empty. */
static size_t cluster_length(String text) {
    size_t length;
    uint32_t code = decode(text.bytes, &length);
    size_t end = length;
    if (end < text.length && code < 0x80 && (unsigned char)text.bytes[end] < 0x80) {
        return code == '\r' && text.bytes[end] == '\n' ? 2 : 1;
    }
    uint8_t previous = value_of(CLUSTER_CLASS, COUNT_OF(CLUSTER_CLASS), code);
    bool after_flag = previous == GCB_FLAG;
    /* Of a pictograph with its extensions: 1, and 2 behind a joiner. Of a conjunct: 1, and 2 behind a linker. */
    int pictograph = IN(PICTOGRAPHIC, code), conjunct = IN(CONJUNCT_CONSONANT, code);
    while (end < text.length) {
        code = decode(text.bytes + end, &length);
        uint8_t class = value_of(CLUSTER_CLASS, COUNT_OF(CLUSTER_CLASS), code);
        bool is_pictograph = IN(PICTOGRAPHIC, code), is_consonant = IN(CONJUNCT_CONSONANT, code);
        if (previous == GCB_CONTROL || class == GCB_CONTROL) {
            break;
        }
        bool joins = class == GCB_EXTEND || class == GCB_ZWJ || class == GCB_SPACING || previous == GCB_PREPEND ||
                     (previous == GCB_L && (class == GCB_L || class == GCB_V || class == GCB_LV || class == GCB_LVT)) ||
                     ((previous == GCB_LV || previous == GCB_V) && (class == GCB_V || class == GCB_T)) ||
                     ((previous == GCB_LVT || previous == GCB_T) && class == GCB_T) ||
                     (after_flag && class == GCB_FLAG) || (pictograph == 2 && is_pictograph) ||
                     (conjunct == 2 && is_consonant);
        if (!joins) {
            break;
        }
        after_flag = class == GCB_FLAG && !after_flag;
        pictograph = is_pictograph ? 1 : pictograph == 1 && class == GCB_ZWJ ? 2 : pictograph == 1 && class == GCB_EXTEND;
        if (is_consonant) {
            conjunct = 1;
        } else if (IN(CONJUNCT_LINKER, code)) {
            conjunct = conjunct != 0 ? 2 : 0;
        } else if (!IN(CONJUNCT_EXTEND, code)) {
            conjunct = 0;
        }
        previous = class;
        end += length;
    }
    return end;
}

/* ===================================================== 3. SHA-256 ================================================= */

typedef struct {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} Sha256;

static const uint32_t SHA256_CONSTANTS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static Sha256 sha256_start(void) {
    return (Sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                              0x5be0cd19}};
}

static uint32_t rotate(uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

static void sha256_block(Sha256 *hash, const unsigned char *block) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) {
        const unsigned char *b = block + 4 * i;
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, hash->state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t first = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + choice + SHA256_CONSTANTS[i] + w[i];
        uint32_t second = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + second;
    }
    for (int i = 0; i < 8; i++) {
        hash->state[i] += s[i];
    }
}

static void sha256_add(Sha256 *hash, const void *content, size_t length) {
    const unsigned char *bytes = content;
    while (length != 0) {
        size_t used = hash->length % 64, part = 64 - used < length ? 64 - used : length;
        if (used == 0 && part == 64) {
            sha256_block(hash, bytes);
        } else {
            memcpy(hash->block + used, bytes, part);
            if (used + part == 64) {
                sha256_block(hash, hash->block);
            }
        }
        hash->length += part;
        bytes += part;
        length -= part;
    }
}

/* Write the hash as 64 hexadecimal digits and a zero. */
static void sha256_finish(Sha256 *hash, char digits[65]) {
    uint64_t bits = hash->length * 8;
    unsigned char size[8];
    for (int i = 0; i < 8; i++) {
        size[i] = (unsigned char)(bits >> (56 - 8 * i));
    }
    sha256_add(hash, "\x80", 1);
    while (hash->length % 64 != 56) {
        sha256_add(hash, "", 1);
    }
    sha256_add(hash, size, 8);
    for (int i = 0; i < 8; i++) {
        snprintf(digits + 8 * i, 9, "%08" PRIx32, hash->state[i]);
    }
}

static void sha256_of(const void *content, size_t length, char digits[65]) {
    Sha256 hash = sha256_start();
    sha256_add(&hash, content, length);
    sha256_finish(&hash, digits);
}

/* ====================================================== 4. Files ================================================== */

/* Open a file of a folder for reading: no link is followed, and nothing waits for a pipe. Return -1 with what is wrong. */
static int open_regular(int folder, const char *name, struct stat *status, const char **problem) {
    int handle = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (handle < 0) {
        *problem = errno == ELOOP    ? "is a link; a bundle holds real files"
                   : errno == ENOENT ? "is missing"
                   : errno == ENXIO  ? "is not a regular file"
                                     : "cannot be read";
        return -1;
    }
    if (fstat(handle, status) != 0 || !S_ISREG(status->st_mode)) {
        close(handle);
        *problem = "is not a regular file";
        return -1;
    }
    return handle;
}

/* Read a handle's file of a size; return whether it has that size. */
static bool read_exactly(int handle, char *content, size_t size) {
    size_t done = 0;
    for (;;) {
        /* One byte more than there should be: a file that grew is another file. */
        ssize_t count = read(handle, content + done, size + 1 - done);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return count == 0 && done == size;
        }
        done += (size_t)count;
        if (done > size) {
            return false;
        }
    }
}

/* Read a regular file of at most a size, with a zero behind it. Return bytes NULL with what is wrong. */
static String read_file(Arena *arena, int folder, const char *name, size_t max_size, const char **problem) {
    struct stat stated, status;
    if (fstatat(folder, name, &stated, AT_SYMLINK_NOFOLLOW) != 0) {
        *problem = errno == ENOENT ? "is missing" : "cannot be read";
        return (String){0};
    }
    size_t size = S_ISREG(stated.st_mode) ? (size_t)stated.st_size : 0;
    if (size > max_size) {
        *problem = "is larger than such a file is";
        return (String){0};
    }
    /* Before the file is opened, for this may fail. */
    char *content = NEW(arena, char, size + 1);
    int handle = open_regular(folder, name, &status, problem);
    if (handle < 0) {
        return (String){0};
    }
    bool is_whole = read_exactly(handle, content, size);
    close(handle);
    if (!is_whole) {
        *problem = "cannot be read, or was changed while it was read";
        return (String){0};
    }
    content[size] = 0;
    return (String){content, size};
}

/* ====================================================== 5. JSON =================================================== */

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_INTEGER, JSON_NUMBER, JSON_STRING, JSON_LIST, JSON_OBJECT } JsonType;

typedef struct Json Json;

/* A value; those of a list or object are linked. Strings and keys without escapes lie in the parsed text. */
struct Json {
    Json *next;
    const char *key;
    union {
        const char *text;
        Json *first;
        double number;
        int64_t integer; /* beyond 64 bits the nearest that fits */
    };
    uint32_t key_length;
    uint32_t length; /* of a string, or the number of values */
    JsonType type;
};

enum { MAX_JSON_DEPTH = 200 };

typedef struct {
    Arena *arena;
    String text;
    size_t place;
    const char *problem;
    bool is_strict; /* names in an object must differ */
    bool is_parsed;
    Json *value;
} JsonReader;

static bool json_fails(JsonReader *reader, const char *problem) {
    reader->problem = reader->problem == NULL ? problem : reader->problem;
    return false;
}

static void json_skip_space(JsonReader *reader) {
    const char *bytes = reader->text.bytes;
    while (bytes[reader->place] == ' ' || bytes[reader->place] == '\n' || bytes[reader->place] == '\r' ||
           bytes[reader->place] == '\t') {
        reader->place++;
    }
}

static bool json_hex(JsonReader *reader, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char digit = reader->text.bytes[reader->place];
        if (!isxdigit((unsigned char)digit)) {
            return json_fails(reader, "it has a wrong escape");
        }
        *code = *code << 4 | (uint32_t)(digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10);
        reader->place++;
    }
    return true;
}

static bool json_escape(JsonReader *reader, Buffer *buffer) {
    static const char NAMES[] = "\"\\/bfnrt", VALUES[] = "\"\\/\b\f\n\r\t";
    char name = reader->text.bytes[reader->place++];
    if (name != 'u') {
        const char *found = name == 0 ? NULL : strchr(NAMES, name);
        if (found == NULL) {
            return json_fails(reader, "it has a wrong escape");
        }
        append(reader->arena, buffer, &VALUES[found - NAMES], 1);
        return true;
    }
    uint32_t code, low;
    if (!json_hex(reader, &code)) {
        return false;
    }
    if (code >= 0xD800 && code < 0xDC00 && reader->text.bytes[reader->place] == '\\' &&
        reader->text.bytes[reader->place + 1] == 'u') {
        reader->place += 2;
        if (!json_hex(reader, &low)) {
            return false;
        }
        if (low < 0xDC00 || low > 0xDFFF) {
            return json_fails(reader, "a string holds a lone surrogate");
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code <= 0xDFFF) {
        return json_fails(reader, "a string holds a lone surrogate");
    }
    append_code(reader->arena, buffer, code);
    return true;
}

/* Read a string behind its first quote. */
static bool json_string(JsonReader *reader, const char **text, uint32_t *length) {
    const char *bytes = reader->text.bytes;
    size_t start = reader->place;
    Buffer buffer = {0};
    bool is_copied = false;
    for (;;) {
        unsigned char byte = (unsigned char)bytes[reader->place];
        if (byte == '"' || byte == '\\') {
            if (is_copied || byte == '\\') {
                append(reader->arena, &buffer, bytes + start, reader->place - start);
            }
            if (byte == '"') {
                break;
            }
            is_copied = true;
            reader->place++;
            if (!json_escape(reader, &buffer)) {
                return false;
            }
            start = reader->place;
        } else if (byte < ' ') {
            return json_fails(reader, "a string is not closed, or holds a control character");
        } else {
            reader->place++;
        }
    }
    String string = is_copied ? written(&buffer) : (String){bytes + start, reader->place - start};
    reader->place++;
    if (string.length > UINT32_MAX) {
        return json_fails(reader, "a string is too long");
    }
    *text = string.bytes;
    *length = (uint32_t)string.length;
    return true;
}

static size_t json_digits(JsonReader *reader) {
    size_t start = reader->place;
    while (isdigit((unsigned char)reader->text.bytes[reader->place])) {
        reader->place++;
    }
    return reader->place - start;
}

static bool json_number(JsonReader *reader, Json *value) {
    const char *bytes = reader->text.bytes;
    size_t start = reader->place;
    reader->place += bytes[start] == '-';
    size_t first = reader->place;
    size_t digits = json_digits(reader);
    if (digits == 0 || (bytes[first] == '0' && digits > 1)) {
        return json_fails(reader, "it is not JSON");
    }
    value->type = JSON_INTEGER;
    if (bytes[reader->place] == '.') {
        reader->place++;
        value->type = JSON_NUMBER;
        if (json_digits(reader) == 0) {
            return json_fails(reader, "a number is malformed");
        }
    }
    if (bytes[reader->place] == 'e' || bytes[reader->place] == 'E') {
        reader->place++;
        value->type = JSON_NUMBER;
        reader->place += bytes[reader->place] == '+' || bytes[reader->place] == '-';
        if (json_digits(reader) == 0) {
            return json_fails(reader, "a number is malformed");
        }
    }
    if (value->type == JSON_INTEGER) {
        value->integer = strtoll(bytes + start, NULL, 10);
        return true;
    }
    value->number = strtod(bytes + start, NULL);
    return isfinite(value->number) ? true : json_fails(reader, "a number is infinite");
}

static int compare_keys(const void *first, const void *second) {
    const Json *a = *(const Json *const *)first, *b = *(const Json *const *)second;
    size_t shared = a->key_length < b->key_length ? a->key_length : b->key_length;
    int order = memcmp(a->key, b->key, shared);
    return order != 0 ? order : (a->key_length > b->key_length) - (a->key_length < b->key_length);
}

static bool json_distinct(JsonReader *reader, const Json *object) {
    if (object->length < 2) {
        return true;
    }
    const Json **sorted = NEW(reader->arena, const Json *, object->length);
    size_t count = 0;
    for (const Json *one = object->first; one != NULL; one = one->next) {
        sorted[count++] = one;
    }
    qsort(sorted, count, sizeof *sorted, compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (compare_keys(&sorted[i - 1], &sorted[i]) == 0) {
            return json_fails(reader, "a name is there twice in an object");
        }
    }
    return true;
}

static bool json_value(JsonReader *reader, Json *value, int depth);

static bool json_members(JsonReader *reader, Json *value, int depth) {
    char close = value->type == JSON_LIST ? ']' : '}';
    Json **last = &value->first;
    value->first = NULL;
    json_skip_space(reader);
    if (reader->text.bytes[reader->place] == close) {
        reader->place++;
        return true;
    }
    for (;;) {
        Json *member = NEW_ZEROS(reader->arena, Json, 1);
        if (value->type == JSON_OBJECT) {
            json_skip_space(reader);
            if (reader->text.bytes[reader->place] != '"') {
                return json_fails(reader, "it is not JSON");
            }
            reader->place++;
            if (!json_string(reader, &member->key, &member->key_length)) {
                return false;
            }
            json_skip_space(reader);
            if (reader->text.bytes[reader->place] != ':') {
                return json_fails(reader, "it is not JSON");
            }
            reader->place++;
        }
        if (!json_value(reader, member, depth + 1)) {
            return false;
        }
        *last = member;
        last = &member->next;
        value->length++;
        json_skip_space(reader);
        char byte = reader->text.bytes[reader->place];
        if (byte != ',' && byte != close) {
            return json_fails(reader, "it is not JSON");
        }
        reader->place++;
        if (byte == close) {
            return value->type == JSON_LIST || !reader->is_strict || json_distinct(reader, value);
        }
    }
}

static bool json_value(JsonReader *reader, Json *value, int depth) {
    static const struct {
        const char *word;
        JsonType type;
    } WORDS[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    if (depth > MAX_JSON_DEPTH) {
        return json_fails(reader, "it is nested too deeply");
    }
    json_skip_space(reader);
    const char *bytes = reader->text.bytes + reader->place;
    if (*bytes == '{' || *bytes == '[') {
        reader->place++;
        value->type = *bytes == '{' ? JSON_OBJECT : JSON_LIST;
        return json_members(reader, value, depth);
    }
    if (*bytes == '"') {
        reader->place++;
        value->type = JSON_STRING;
        return json_string(reader, &value->text, &value->length);
    }
    if (*bytes == '-' || isdigit((unsigned char)*bytes)) {
        return json_number(reader, value);
    }
    for (size_t i = 0; i < COUNT_OF(WORDS); i++) {
        size_t length = strlen(WORDS[i].word);
        if (strncmp(bytes, WORDS[i].word, length) == 0) {
            reader->place += length;
            value->type = WORDS[i].type;
            return true;
        }
    }
    return json_fails(reader, "it is not JSON");
}

static void read_json(void *argument) {
    JsonReader *reader = argument;
    reader->is_parsed = json_value(reader, reader->value, 0);
}

/* Parse UTF-8 JSON of at most so many values; the text must end in a zero and stay. Return NULL with what is wrong.
 *
 * A byte order mark, NaN, Infinity and lone surrogates are no JSON here; `is_strict` refuses equal names, too. */
static Json *parse_json(Arena *arena, String text, size_t max_values, bool is_strict, const char **problem) {
    size_t values = 0;
    for (size_t i = 0; i < text.length; i++) {
        values += text.bytes[i] == '[' || text.bytes[i] == '{' || text.bytes[i] == ',';
    }
    if (values > max_values) {
        *problem = "it has too many values";
        return NULL;
    }
    if (!is_utf8(text)) {
        *problem = "it is not UTF-8";
        return NULL;
    }
    JsonReader reader = {.arena = arena, .text = text, .is_strict = is_strict, .value = NEW_ZEROS(arena, Json, 1)};
    /* strtod reads the decimal point of the program's locale. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = (locale_t)0;
    if (plain != (locale_t)0) {
        before = uselocale(plain);
    }
    Trap trap, *outer = arena->trap;
    arena->trap = &trap;
    bool is_finished = attempt(&trap, read_json, &reader);
    arena->trap = outer;
    if (plain != (locale_t)0) {
        uselocale(before);
        freelocale(plain);
    }
    if (!is_finished) {
        fail(outer, MONOGRAPH_MEMORY_ERROR, "out of memory");
    }
    json_skip_space(&reader);
    if (!reader.is_parsed || reader.place != text.length) {
        *problem = reader.is_parsed ? "it has something behind its end" : reader.problem;
        return NULL;
    }
    return reader.value;
}

/* Return a value of an object, the last of its name; NULL where it is absent or null. */
static const Json *member(const Json *object, const char *name) {
    const Json *found = NULL;
    if (object != NULL && object->type == JSON_OBJECT) {
        for (const Json *one = object->first; one != NULL; one = one->next) {
            found = is((String){one->key, one->key_length}, name) ? one : found;
        }
    }
    return found == NULL || found->type == JSON_NULL ? NULL : found;
}

static const Json *typed_member(const Json *object, const char *name, JsonType type) {
    const Json *value = member(object, name);
    return value != NULL && value->type == type ? value : NULL;
}

static String string_in(const Json *value) {
    return value != NULL && value->type == JSON_STRING ? (String){value->text, value->length} : (String){"", 0};
}

static String key_of(const Json *value) { return (String){value->key, value->key_length}; }

static String string_member(const Json *object, const char *name) { return string_in(member(object, name)); }

static int64_t integer_member(const Json *object, const char *name, int64_t otherwise) {
    const Json *value = typed_member(object, name, JSON_INTEGER);
    return value == NULL ? otherwise : value->integer;
}

static bool flag_member(const Json *object, const char *name, bool otherwise) {
    const Json *value = member(object, name);
    return value == NULL || (value->type != JSON_TRUE && value->type != JSON_FALSE) ? otherwise : value->type == JSON_TRUE;
}

static const Json *first_of(const Json *list) {
    return list != NULL && (list->type == JSON_LIST || list->type == JSON_OBJECT) ? list->first : NULL;
}

static double number_in(const Json *value) {
    return value->type == JSON_INTEGER ? (double)value->integer : value->number;
}

/* ========================================= 6. The graph's bytes (protobuf) ======================================== */

/* Engines read external data while they load a graph, before anyone can check it. So the graph is read here first, and
 * refused if it is not what a serializer writes with the fields of onnx.proto below: a field that occurs twice, of an
 * unknown number or in another wire type means different things to different parsers. */

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum { MAX_GRAPH_BYTES = 4 << 20, GRAPH_DEPTH = 8, TENSOR_RANK = 64, GRAPH_PROBLEMS = 8 };

typedef struct {
    uint8_t number, wire_type;
    bool is_repeated;
} FieldRule;

typedef struct {
    const char *name;
    const FieldRule *fields;
    size_t count;
} MessageRule;

#define MESSAGE(identifier, title, ...)                                                                                \
    static const FieldRule identifier##_FIELDS[] = {__VA_ARGS__};                                                      \
    static const MessageRule identifier = {title, identifier##_FIELDS, COUNT_OF(identifier##_FIELDS)}

MESSAGE(ENTRY_MESSAGE, "StringStringEntryProto", {1, WIRE_BYTES, false}, {2, WIRE_BYTES, false});
MESSAGE(OPSET_MESSAGE, "OperatorSetIdProto", {1, WIRE_BYTES, false}, {2, WIRE_VARINT, false});
MESSAGE(MODEL_MESSAGE, "ModelProto", {1, WIRE_VARINT, false}, {2, WIRE_BYTES, false}, {3, WIRE_BYTES, false},
        {4, WIRE_BYTES, false}, {5, WIRE_VARINT, false}, {6, WIRE_BYTES, false}, {7, WIRE_BYTES, false},
        {8, WIRE_BYTES, true}, {14, WIRE_BYTES, true}, {20, WIRE_BYTES, true}, {25, WIRE_BYTES, true},
        {26, WIRE_BYTES, true});
MESSAGE(GRAPH_MESSAGE, "GraphProto", {1, WIRE_BYTES, true}, {2, WIRE_BYTES, false}, {5, WIRE_BYTES, true},
        {10, WIRE_BYTES, false}, {11, WIRE_BYTES, true}, {12, WIRE_BYTES, true}, {13, WIRE_BYTES, true},
        {14, WIRE_BYTES, true}, {16, WIRE_BYTES, true});
MESSAGE(NODE_MESSAGE, "NodeProto", {1, WIRE_BYTES, true}, {2, WIRE_BYTES, true}, {3, WIRE_BYTES, false},
        {4, WIRE_BYTES, false}, {5, WIRE_BYTES, true}, {6, WIRE_BYTES, false}, {7, WIRE_BYTES, false},
        {9, WIRE_BYTES, true});
MESSAGE(ATTRIBUTE_MESSAGE, "AttributeProto", {1, WIRE_BYTES, false}, {2, WIRE_FIXED32, false}, {3, WIRE_VARINT, false},
        {4, WIRE_BYTES, false}, {5, WIRE_BYTES, false}, {6, WIRE_BYTES, false}, {7, WIRE_FIXED32, true},
        {8, WIRE_VARINT, true}, {9, WIRE_BYTES, true}, {10, WIRE_BYTES, true}, {11, WIRE_BYTES, true},
        {13, WIRE_BYTES, false}, {14, WIRE_BYTES, false}, {15, WIRE_BYTES, true}, {20, WIRE_VARINT, false});
MESSAGE(TENSOR_MESSAGE, "TensorProto", {1, WIRE_VARINT, true}, {2, WIRE_VARINT, false}, {4, WIRE_BYTES, false},
        {5, WIRE_BYTES, false}, {7, WIRE_BYTES, false}, {8, WIRE_BYTES, false}, {9, WIRE_BYTES, false},
        {10, WIRE_BYTES, false}, {11, WIRE_BYTES, false}, {12, WIRE_BYTES, false}, {13, WIRE_BYTES, true},
        {14, WIRE_VARINT, false}, {16, WIRE_BYTES, true});

/* A part of a message that is being read, and the field that was read last. */
typedef struct {
    const MessageRule *rule;
    size_t place, end;
    uint64_t seen;
    unsigned number;
    uint64_t value;   /* of a varint */
    size_t from, to;  /* of the others */
} Fields;

/* A table of embeddings: an initializer of the graph, stored in the file of weights, whose rows a Gather takes. */
typedef struct {
    String name;
    uint64_t data_type, offset, length;
    int64_t *dims;
    size_t rank;
} Table;

typedef struct {
    Table *items;
    size_t count, capacity;
} Tables;

typedef struct {
    String *items;
    size_t count, capacity;
} Strings;

typedef struct {
    String content;
    Problems *problems;
    size_t problems_before;
    const char *file;
    String weights;
    uint64_t weights_size;
    const Json *op_domains;
    Strings gathered; /* what Gather nodes of the graph itself take rows of */
    Tables tables;
    Trap stop; /* where reading ends at bytes that are no graph */
    const char *damage;
} Scanner;

__attribute__((format(printf, 2, 3))) static void note_graph(Scanner *scanner, const char *format, ...) {
    char text[384];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (scanner->problems->count - scanner->problems_before < GRAPH_PROBLEMS) {
        note(scanner->problems, "%s %s", scanner->file, text);
    }
}

_Noreturn static void damaged(Scanner *scanner, const char *reason) {
    scanner->damage = reason;
    longjmp(scanner->stop.jump, 1);
}

static uint64_t read_varint(Scanner *scanner, size_t *place, size_t end) {
    uint64_t value = 0;
    for (int count = 0; count < 10 && *place < end; count++) {
        unsigned char byte = (unsigned char)scanner->content.bytes[(*place)++];
        /* The tenth byte has the last of 64 bits. */
        if (count == 9 && byte > 1) {
            break;
        }
        value |= (uint64_t)(byte & 0x7F) << 7 * count;
        if (byte < 0x80) {
            if (byte == 0 && count > 0) {
                break;
            }
            return value;
        }
    }
    damaged(scanner, "a number is truncated, too large or longer than it needs to be");
}

static Fields fields_of(const MessageRule *rule, size_t start, size_t end) {
    return (Fields){.rule = rule, .place = start, .end = end};
}

static bool next_field(Scanner *scanner, Fields *fields) {
    if (fields->place >= fields->end) {
        return false;
    }
    uint64_t tag = read_varint(scanner, &fields->place, fields->end);
    const FieldRule *rule = NULL;
    for (size_t i = 0; i < fields->rule->count && rule == NULL; i++) {
        const FieldRule *one = &fields->rule->fields[i];
        rule = (uint64_t)(one->number << 3 | one->wire_type) == tag ? one : NULL;
    }
    if (rule == NULL) {
        damaged(scanner, "a message has an unknown field, or one of another wire type");
    }
    if (!rule->is_repeated && fields->seen >> rule->number & 1) {
        damaged(scanner, "a message has a field twice");
    }
    fields->seen |= (uint64_t)1 << rule->number;
    fields->number = rule->number;
    fields->value = 0;
    uint64_t size = rule->wire_type == WIRE_FIXED32 ? 4 : 0;
    if (rule->wire_type == WIRE_BYTES) {
        size = read_varint(scanner, &fields->place, fields->end);
    } else if (rule->wire_type == WIRE_VARINT) {
        fields->value = read_varint(scanner, &fields->place, fields->end);
    }
    if (size > fields->end - fields->place) {
        damaged(scanner, "a message is truncated");
    }
    fields->from = fields->place;
    fields->to = fields->place = fields->place + (size_t)size;
    return true;
}

static String bytes_of(const Scanner *scanner, const Fields *fields) {
    return (String){scanner->content.bytes + fields->from, fields->to - fields->from};
}

/* A key with its value. */
typedef struct {
    String key, value;
} Entry;

static Entry read_entry(Scanner *scanner, const Fields *outer) {
    Entry entry = {{"", 0}, {"", 0}};
    for (Fields fields = fields_of(&ENTRY_MESSAGE, outer->from, outer->to); next_field(scanner, &fields);) {
        *(fields.number == 1 ? &entry.key : &entry.value) = bytes_of(scanner, &fields);
    }
    return entry;
}

static void check_domain(Scanner *scanner, String domain) {
    domain = domain.length == 0 ? string_of("ai.onnx") : domain;
    for (const Json *one = first_of(scanner->op_domains); one != NULL; one = one->next) {
        String allowed = string_in(one);
        if (same(domain, allowed.length == 0 ? string_of("ai.onnx") : allowed)) {
            return;
        }
    }
    note_graph(scanner, "uses operators of %s, which are not among its op_domains", quote(scanner->problems->arena, domain));
}

/* The bits of an element by TensorProto.DataType; 0 for strings, complex numbers and what does not exist. */
static const uint8_t ELEMENT_BITS[] = {0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 0, 0, 16, 8, 8, 8, 8, 4, 4, 4, 8,
                                       2, 2};

enum { FLOAT_DATA = 4, INT32_DATA = 5, INT64_DATA = 7, RAW_DATA = 9, DOUBLE_DATA = 10, UINT64_DATA = 11 };

typedef struct {
    String name;
    uint64_t data_type, data_location;
    uint64_t dims[TENSOR_RANK];
    size_t rank;
    Entry place[3];
    size_t place_count;
    unsigned stored; /* the field that has the values, 0 for none */
    size_t stored_fields;
    uint64_t stored_count; /* values, or bytes of raw data */
} Tensor;

static uint64_t count_values(const Scanner *scanner, const Fields *fields) {
    size_t size = fields->to - fields->from;
    if (fields->number == RAW_DATA) {
        return size;
    }
    if (fields->number == FLOAT_DATA || fields->number == DOUBLE_DATA) {
        return size / (fields->number == FLOAT_DATA ? 4 : 8);
    }
    uint64_t count = 0;
    for (size_t i = fields->from; i < fields->to; i++) {
        count += (unsigned char)scanner->content.bytes[i] < 0x80;
    }
    return count;
}

/* Read a decimal number of at most 19 digits without leading zeros. */
static bool read_decimal(String text, uint64_t *value) {
    *value = 0;
    if (text.length == 0 || text.length > 19 || (text.bytes[0] == '0' && text.length > 1)) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') {
            return false;
        }
        *value = *value * 10 + (uint64_t)(text.bytes[i] - '0');
    }
    return true;
}

static void check_place(Scanner *scanner, const Tensor *tensor, uint64_t size) {
    Arena *arena = scanner->problems->arena;
    const char *name = quote(arena, tensor->name);
    String location = {0}, offset_text = {0}, length_text = {0};
    for (size_t i = 0; i < tensor->place_count && i < COUNT_OF(tensor->place); i++) {
        String key = tensor->place[i].key, value = tensor->place[i].value;
        location = is(key, "location") ? value : location;
        offset_text = is(key, "offset") ? value : offset_text;
        length_text = is(key, "length") ? value : length_text;
    }
    if (tensor->place_count != 3 || location.bytes == NULL || offset_text.bytes == NULL || length_text.bytes == NULL) {
        note_graph(scanner, "has the weights %s without location, offset and length, each once and nothing else", name);
        return;
    }
    if (!same(location, scanner->weights)) {
        note_graph(scanner, "has weights at %s, and its weights are %s", quote(arena, location),
                   quote(arena, scanner->weights));
        return;
    }
    uint64_t offset, length;
    if (!read_decimal(offset_text, &offset) || !read_decimal(length_text, &length)) {
        note_graph(scanner, "has the weights %s with an offset or length that is no number", name);
        return;
    }
    if (length != size) {
        note_graph(scanner, "has the weights %s of %" PRIu64 " bytes, which its shape and type do not take", name, length);
    }
    if (offset > scanner->weights_size || length > scanner->weights_size - offset) {
        note_graph(scanner, "has the weights %s beyond the end of their file", name);
    }
    for (size_t i = 0; i < scanner->gathered.count; i++) {
        if (same(scanner->gathered.items[i], tensor->name)) {
            Table table = {tensor->name, tensor->data_type, offset, length, NEW(arena, int64_t, tensor->rank), tensor->rank};
            memcpy(table.dims, tensor->dims, tensor->rank * sizeof *table.dims);
            PUSH(arena, scanner->tables, table);
            break;
        }
    }
}

static void check_tensor(Scanner *scanner, const Tensor *tensor) {
    const char *name = quote(scanner->problems->arena, tensor->name);
    if (tensor->rank > TENSOR_RANK) {
        damaged(scanner, "a tensor has a shape that none has");
    }
    /* Parsers take the lowest 32 bits of larger ones. */
    if (tensor->data_location > 1) {
        damaged(scanner, "a tensor has an unknown data_location");
    }
    unsigned bits = tensor->data_type < COUNT_OF(ELEMENT_BITS) ? ELEMENT_BITS[tensor->data_type] : 0;
    if (bits == 0) {
        note_graph(scanner, "has the tensor %s of a data type that no export writes", name);
        return;
    }
    /* No file has more bytes, so more elements are as wrong as any other wrong number. */
    const uint64_t max_count = (uint64_t)1 << 60;
    uint64_t count = 1;
    bool is_empty = false;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] > INT64_MAX) {
            damaged(scanner, "a tensor has a shape that none has");
        }
        is_empty = is_empty || tensor->dims[i] == 0;
    }
    for (size_t i = 0; i < tensor->rank && !is_empty; i++) {
        count = tensor->dims[i] > max_count / count ? max_count : count * tensor->dims[i];
    }
    count = is_empty ? 0 : count;
    uint64_t size = count >= max_count ? UINT64_MAX : (count * bits + 7) / 8;
    if (tensor->data_location == 1) {
        if (tensor->stored_fields != 0) {
            note_graph(scanner, "has the tensor %s inside and outside the graph", name);
        }
        check_place(scanner, tensor, size);
        return;
    }
    if (tensor->place_count != 0) {
        note_graph(scanner, "has the tensor %s with the place of weights that lie in the graph", name);
        return;
    }
    unsigned typed = tensor->data_type == 1    ? FLOAT_DATA
                     : tensor->data_type == 7  ? INT64_DATA
                     : tensor->data_type == 11 ? DOUBLE_DATA
                     : tensor->data_type == 12 || tensor->data_type == 13 ? UINT64_DATA : INT32_DATA;
    uint64_t expected = tensor->stored_fields == 0 || tensor->stored == RAW_DATA || bits < 8 ? size : count;
    bool is_allowed = tensor->stored_fields == 0 || tensor->stored == RAW_DATA || tensor->stored == typed;
    if (tensor->stored_fields > 1 || !is_allowed || tensor->stored_count != expected) {
        note_graph(scanner, "has the tensor %s with more or fewer values than its shape has", name);
    }
}

static void scan_tensor(Scanner *scanner, const Fields *outer) {
    Tensor tensor = {.name = {"", 0}};
    for (Fields fields = fields_of(&TENSOR_MESSAGE, outer->from, outer->to); next_field(scanner, &fields);) {
        if (fields.number == 1) {
            if (tensor.rank < TENSOR_RANK) {
                tensor.dims[tensor.rank] = fields.value;
            }
            tensor.rank++;
        } else if (fields.number == 2) {
            tensor.data_type = fields.value;
        } else if (fields.number == 8) {
            tensor.name = bytes_of(scanner, &fields);
        } else if (fields.number == 13) {
            Entry entry = read_entry(scanner, &fields);
            if (tensor.place_count < COUNT_OF(tensor.place)) {
                tensor.place[tensor.place_count] = entry;
            }
            tensor.place_count++;
        } else if (fields.number == 14) {
            tensor.data_location = fields.value;
        } else if (fields.number == FLOAT_DATA || fields.number == INT32_DATA || fields.number == INT64_DATA ||
                   fields.number == RAW_DATA || fields.number == DOUBLE_DATA || fields.number == UINT64_DATA) {
            tensor.stored = fields.number;
            tensor.stored_fields++;
            tensor.stored_count = count_values(scanner, &fields);
        }
    }
    check_tensor(scanner, &tensor);
}

static void scan_graph(Scanner *scanner, size_t start, size_t end, int depth);

static void scan_attribute(Scanner *scanner, const Fields *outer, String operator, int depth) {
    for (Fields fields = fields_of(&ATTRIBUTE_MESSAGE, outer->from, outer->to); next_field(scanner, &fields);) {
        if (fields.number == 5 || fields.number == 10) {
            scan_tensor(scanner, &fields);
        } else if (fields.number == 6 || fields.number == 11) {
            /* Only its branches are graphs that run once at most. */
            if (!is(operator, "If")) {
                note_graph(scanner, "has a graph within the operator %s, which no export writes",
                           quote(scanner->problems->arena, operator));
            }
            scan_graph(scanner, fields.from, fields.to, depth + 1);
        }
    }
}

static void scan_node(Scanner *scanner, const Fields *outer, int depth) {
    /* They need not end, or read a file or an image by themselves. */
    static const char *const REFUSED[] = {"Loop", "Scan", "SequenceMap", "EPContext", "ImageDecoder"};
    String operator = {"", 0}, domain = {"", 0}, first_input = {0};
    for (Fields fields = fields_of(&NODE_MESSAGE, outer->from, outer->to); next_field(scanner, &fields);) {
        first_input = fields.number == 1 && first_input.bytes == NULL ? bytes_of(scanner, &fields) : first_input;
        operator = fields.number == 4 ? bytes_of(scanner, &fields) : operator;
        domain = fields.number == 7 ? bytes_of(scanner, &fields) : domain;
    }
    if (domain.length != 0) {
        check_domain(scanner, domain);
    }
    if (is(operator, "Gather") && depth == 1 && first_input.bytes != NULL) {
        PUSH(scanner->problems->arena, scanner->gathered, first_input);
    }
    for (size_t i = 0; i < COUNT_OF(REFUSED); i++) {
        if (is(operator, REFUSED[i])) {
            note_graph(scanner, "has the operator %s, which no export writes", REFUSED[i]);
        }
    }
    for (Fields fields = fields_of(&NODE_MESSAGE, outer->from, outer->to); next_field(scanner, &fields);) {
        if (fields.number == 5) {
            scan_attribute(scanner, &fields, operator, depth);
        }
    }
}

static void scan_graph(Scanner *scanner, size_t start, size_t end, int depth) {
    if (depth > GRAPH_DEPTH) {
        damaged(scanner, "graphs are nested too deeply");
    }
    for (Fields fields = fields_of(&GRAPH_MESSAGE, start, end); next_field(scanner, &fields);) {
        if (fields.number == 1) {
            scan_node(scanner, &fields, depth);
        } else if (fields.number == 5) {
            scan_tensor(scanner, &fields);
        }
    }
}

static void scan_model(void *argument) {
    Scanner *scanner = argument;
    bool has_graph = false;
    size_t start = 0, end = 0;
    for (Fields fields = fields_of(&MODEL_MESSAGE, 0, scanner->content.length); next_field(scanner, &fields);) {
        if (fields.number == 7) {
            has_graph = true;
            start = fields.from;
            end = fields.to;
        } else if (fields.number == 8) {
            String domain = {"", 0};
            for (Fields opset = fields_of(&OPSET_MESSAGE, fields.from, fields.to); next_field(scanner, &opset);) {
                domain = opset.number == 1 ? bytes_of(scanner, &opset) : domain;
            }
            check_domain(scanner, domain);
        } else if (fields.number == 14 && is(read_entry(scanner, &fields).key, "ort_config")) {
            note_graph(scanner, "has options of ONNX Runtime in its metadata, which no export writes");
        } else if (fields.number >= 20) {
            note_graph(scanner, "has %s, which no export writes",
                       fields.number == 20 ? "training information" : fields.number == 25 ? "local functions"
                                                                                            : "a configuration");
        }
    }
    if (!has_graph) {
        damaged(scanner, "ModelProto has no graph");
    }
    scan_graph(scanner, start, end, 1);
}

/* Note every reason not to give a graph to an engine; return its tables. */
static Tables find_graph_problems(Problems *problems, const char *file, String content, String weights,
                                uint64_t weights_size, const Json *op_domains) {
    if (content.length >= 8 && memcmp(content.bytes + 4, "ORTM", 4) == 0) {
        note(problems, "%s is a graph in the format of ONNX Runtime, not in that of ONNX", file);
        return (Tables){0};
    }
    Scanner scanner = {.content = content, .problems = problems, .problems_before = problems->count, .file = file,
                       .weights = weights, .weights_size = weights_size, .op_domains = op_domains};
    if (!attempt(&scanner.stop, scan_model, &scanner)) {
        note_graph(&scanner, "is not an ONNX graph as a bundle has it (%s)", scanner.damage);
    }
    return scanner.tables;
}

/* ================================================== 7. The manifest =============================================== */

enum { FORMAT_VERSION = 1, MAX_MANIFEST_BYTES = 8 << 20, MAX_MANIFEST_VALUES = 1000000, MAX_WIDTH = 1 << 20 };
#define MAX_HASHED_BYTES ((uint64_t)1 << 30)

static const char WEIGHTS_SUFFIX[] = ".onnx.data", GRAPH_SUFFIX[] = ".onnx";
static const char MANIFEST_FILE[] = "manifest.json", PROBES_FILE[] = "probes.json", MEASUREMENTS_FILE[] = "measurements.json";

typedef enum {
    STRING, INTEGER, NUMBER, FLAG, OBJECT,
    STRINGS, INTEGERS, OBJECTS, SIZES, /* lists; a size is an integer, or the name of a dynamic axis */
    STRING_MAP, INTEGER_MAP, NUMBER_MAP, OBJECT_MAP,
    RANGES, /* two lists of numbers */
} Shape;

typedef struct ObjectRule ObjectRule;

typedef struct {
    const char *key;
    Shape shape;
    bool is_optional; /* it may be absent or null */
    const ObjectRule *object;
} KeyRule;

struct ObjectRule {
    const KeyRule *keys;
    size_t count;
};

#define RULE(identifier, ...)                                                                                          \
    static const KeyRule identifier##_KEYS[] = {__VA_ARGS__};                                                          \
    static const ObjectRule identifier = {identifier##_KEYS, COUNT_OF(identifier##_KEYS)}

RULE(SOURCE_RULE, {"name", STRING, false, 0}, {"revision", STRING, true, 0}, {"license", STRING, true, 0},
     {"sha256", STRING_MAP, false, 0});
RULE(SPEC_RULE, {"dtype", STRING, false, 0}, {"shape", SIZES, false, 0});
RULE(GRAPH_RULE, {"file", STRING, false, 0}, {"devices", STRINGS, false, 0}, {"precision", STRING, false, 0},
     {"opset", INTEGER, false, 0}, {"inputs", OBJECT_MAP, false, &SPEC_RULE}, {"outputs", OBJECT_MAP, false, &SPEC_RULE},
     {"op_domains", STRINGS, false, 0}, {"parts", INTEGER_MAP, true, 0}, {"max_batch_size", INTEGER, true, 0},
     {"route", STRING, true, 0}, {"weights_bytes", INTEGER, true, 0});
RULE(TOKENIZER_RULE, {"file", STRING, false, 0}, {"max_length", INTEGER, true, 0}, {"padding_side", STRING, false, 0},
     {"pad_id", INTEGER, false, 0}, {"vocabulary_size", INTEGER, false, 0}, {"special_ids", INTEGERS, true, 0},
     {"min_length", INTEGER, true, 0});
RULE(EMBEDDING_RULE, {"dimension", INTEGER, false, 0}, {"normalized", FLAG, false, 0}, {"similarity", STRING, false, 0},
     {"matryoshka_dimensions", INTEGERS, false, 0}, {"truncate_dim", INTEGER, true, 0}, {"ranges", RANGES, true, 0});
RULE(TOLERANCE_RULE, {"max_abs_difference", NUMBER, true, 0}, {"min_cosine", NUMBER, true, 0}, {"exact", FLAG, true, 0});
RULE(CASE_RULE, {"case", STRING, false, 0}, {"max_abs_difference", NUMBER, false, 0}, {"worst_cosine", NUMBER, true, 0},
     {"worst_tokens", INTEGER, false, 0});
RULE(VERIFICATION_RULE, {"engine", STRING, false, 0}, {"version", STRING, false, 0}, {"device", STRING, false, 0},
     {"compute_dtype", STRING, false, 0}, {"passed", FLAG, false, 0}, {"tolerance", OBJECT, false, &TOLERANCE_RULE},
     {"max_abs_difference", NUMBER, false, 0}, {"worst_cosine", NUMBER, true, 0}, {"probes", INTEGER, false, 0},
     {"reason", STRING, false, 0}, {"cases", OBJECTS, true, &CASE_RULE});
RULE(COVERAGE_RULE, {"name", STRING, false, 0}, {"texts", INTEGER, false, 0}, {"unchanged", NUMBER, false, 0},
     {"unknown_before", NUMBER, false, 0}, {"unknown", NUMBER, false, 0}, {"growth", NUMBER, false, 0});
RULE(VOCABULARY_RULE, {"tokens", INTEGER, false, 0}, {"original_tokens", INTEGER, false, 0}, {"corpus", STRING, true, 0},
     {"scripts", STRINGS, false, 0}, {"character_scripts", STRINGS, false, 0}, {"same_tokens", INTEGER, false, 0},
     {"same_vectors", INTEGER, false, 0}, {"max_abs_difference", NUMBER, false, 0},
     {"coverage", OBJECT, true, &COVERAGE_RULE});
RULE(LAYERS_RULE, {"precision", STRING, false, 0}, {"calibration", STRING, true, 0}, {"calibration_inputs", INTEGER, true, 0},
     {"calibration_agreement", NUMBER_MAP, true, 0}, {"float32_inputs", STRINGS, true, 0},
     {"smoothing_strength", NUMBER_MAP, true, 0}, {"reduce_range", FLAG, true, 0});
RULE(AGREEMENT_RULE, {"texts", INTEGER, false, 0}, {"mean_cosine", NUMBER, false, 0}, {"percentile_1_cosine", NUMBER, false, 0},
     {"worst_cosine", NUMBER, false, 0}, {"spearman", NUMBER, false, 0}, {"neighbour_agreement", NUMBER, false, 0});
RULE(COMPRESSION_RULE, {"table", STRING, false, 0}, {"limits", NUMBER_MAP, false, 0}, {"layers", OBJECT, true, &LAYERS_RULE});
RULE(OLD_COMPRESSION_RULE, {"table", STRING, false, 0}, {"limits", NUMBER_MAP, false, 0},
     {"layers", OBJECT, true, &LAYERS_RULE}, {"agreement", OBJECT, false, &AGREEMENT_RULE});
RULE(QUALITY_RULE, {"reference", STRING, false, 0}, {"verifications", OBJECTS, false, &VERIFICATION_RULE},
     {"not_run", STRING_MAP, true, 0}, {"vocabulary", OBJECT, true, &VOCABULARY_RULE}, {"encoder_file", STRING, true, 0});
RULE(OLD_QUALITY_RULE, {"compression", OBJECT, true, &OLD_COMPRESSION_RULE});
RULE(PRECISION_RULE, {"probes", STRING, false, 0}, {"quality", OBJECT, false, &QUALITY_RULE},
     {"compression", OBJECT, true, &COMPRESSION_RULE});
RULE(FILE_RULE, {"bytes", INTEGER, false, 0}, {"sha256", STRING, false, 0});
RULE(ROUTING_RULE, {"tokenizers", OBJECT_MAP, false, &TOKENIZER_RULE}, {"tasks", STRING_MAP, false, 0},
     {"default", STRING, true, 0});
RULE(MANIFEST_RULE, {"source", OBJECT, false, &SOURCE_RULE}, {"graphs", OBJECTS, false, &GRAPH_RULE},
     {"tokenizer", OBJECT, false, &TOKENIZER_RULE}, {"embedding", OBJECT, false, &EMBEDDING_RULE},
     {"prompts", STRING_MAP, false, 0}, {"default_prompt_name", STRING, true, 0}, {"quality", OBJECT, false, &QUALITY_RULE},
     {"compression", OBJECT, true, &COMPRESSION_RULE}, {"producer", STRING_MAP, false, 0},
     {"files", OBJECT_MAP, false, &FILE_RULE}, {"further_precisions", OBJECT_MAP, true, &PRECISION_RULE}, {"routing", OBJECT, true, &ROUTING_RULE});
RULE(PRECISION_MEASUREMENTS_RULE, {"verifications", OBJECTS, false, &VERIFICATION_RULE}, {"not_run", STRING_MAP, true, 0},
     {"agreement", OBJECT, true, &AGREEMENT_RULE}, {"calibration_agreement", NUMBER_MAP, true, 0});
RULE(MEASUREMENTS_RULE, {"manifest_sha256", STRING, false, 0}, {"verifications", OBJECTS, false, &VERIFICATION_RULE},
     {"not_run", STRING_MAP, true, 0}, {"agreement", OBJECT, true, &AGREEMENT_RULE},
     {"calibration_agreement", NUMBER_MAP, true, 0},
     {"further_precisions", OBJECT_MAP, true, &PRECISION_MEASUREMENTS_RULE});

static bool is_number(const Json *value) { return value->type == JSON_INTEGER || value->type == JSON_NUMBER; }

static bool all_of(const Json *values, JsonType first, JsonType second) {
    for (const Json *one = values->first; one != NULL; one = one->next) {
        if (one->type != first && one->type != second) {
            return false;
        }
    }
    return true;
}

static void check_object(Problems *problems, const Json *value, const char *path, const ObjectRule *rule);

/* Note where a value is not of its shape. */
static void check_shape(Problems *problems, const Json *value, const char *path, const KeyRule *rule) {
    static const struct {
        JsonType type, other, first, second; /* of the value, and of what it holds */
        const char *name;
    } SHAPES[] = {
        [STRING] = {JSON_STRING, JSON_STRING, 0, 0, "a string"},
        [INTEGER] = {JSON_INTEGER, JSON_INTEGER, 0, 0, "an integer"},
        [NUMBER] = {JSON_INTEGER, JSON_NUMBER, 0, 0, "a number"},
        [FLAG] = {JSON_TRUE, JSON_FALSE, 0, 0, "true or false"},
        [OBJECT] = {JSON_OBJECT, JSON_OBJECT, 0, 0, "an object"},
        [STRINGS] = {JSON_LIST, JSON_LIST, JSON_STRING, JSON_STRING, "a list of strings"},
        [INTEGERS] = {JSON_LIST, JSON_LIST, JSON_INTEGER, JSON_INTEGER, "a list of integers"},
        [OBJECTS] = {JSON_LIST, JSON_LIST, JSON_OBJECT, JSON_OBJECT, "a list of objects"},
        [SIZES] = {JSON_LIST, JSON_LIST, JSON_INTEGER, JSON_STRING, "a list of integers and strings"},
        [STRING_MAP] = {JSON_OBJECT, JSON_OBJECT, JSON_STRING, JSON_STRING, "an object of strings"},
        [INTEGER_MAP] = {JSON_OBJECT, JSON_OBJECT, JSON_INTEGER, JSON_INTEGER, "an object of integers"},
        [NUMBER_MAP] = {JSON_OBJECT, JSON_OBJECT, JSON_INTEGER, JSON_NUMBER, "an object of numbers"},
        [OBJECT_MAP] = {JSON_OBJECT, JSON_OBJECT, JSON_OBJECT, JSON_OBJECT, "an object of objects"},
        [RANGES] = {JSON_LIST, JSON_LIST, JSON_LIST, JSON_LIST, "two lists of numbers"},
    };
    bool is_right = value->type == SHAPES[rule->shape].type || value->type == SHAPES[rule->shape].other;
    if (is_right && rule->shape >= STRINGS) {
        is_right = all_of(value, SHAPES[rule->shape].first, SHAPES[rule->shape].second);
    }
    if (is_right && rule->shape == RANGES) {
        is_right = value->length == 2;
        for (const Json *row = value->first; row != NULL && is_right; row = row->next) {
            is_right = all_of(row, JSON_INTEGER, JSON_NUMBER);
        }
    }
    if (!is_right) {
        note(problems, "%s must be %s", path, SHAPES[rule->shape].name);
        return;
    }
    if (rule->shape == OBJECT) {
        check_object(problems, value, path, rule->object);
    } else if (rule->shape == OBJECTS || rule->shape == OBJECT_MAP) {
        size_t place = 0;
        for (const Json *one = value->first; one != NULL; one = one->next, place++) {
            const char *name = rule->shape == OBJECTS ? format_text(problems->arena, "%s[%zu]", path, place)
                                                      : format_text(problems->arena, "%s.%s", path,
                                                                    quote(problems->arena, key_of(one)));
            check_object(problems, one, name, rule->object);
        }
    }
}

static void check_object(Problems *problems, const Json *value, const char *path, const ObjectRule *rule) {
    for (size_t i = 0; i < rule->count; i++) {
        const KeyRule *key = &rule->keys[i];
        const char *name = format_text(problems->arena, "%s%s%s", path, *path == 0 ? "" : ".", key->key);
        const Json *one = member(value, key->key);
        if (one != NULL) {
            check_shape(problems, one, name, key);
        } else if (!key->is_optional) {
            note(problems, "%s is missing", name);
        }
    }
}

/* What this reader needs of a manifest. */
typedef struct {
    const Json *json, *files, *prompts, *graph, *tokenizer, *section;
    String graph_file, tokenizer_file, weights_file, probes_file;
    int64_t dimension, truncate_dim, max_length, vocabulary_size, pad_id, max_batch_size;
    bool needs_tokens, has_pooling_mask;
    String precision;
    char sha256[65];
} Manifest;

static const char *const GRAPH_INPUTS[] = {"input_ids", "attention_mask", "token_type_ids", "pooling_mask"};

static bool is_one_of(String text, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (is(text, names[i])) {
            return true;
        }
    }
    return false;
}

static const Json *member_named(const Json *object, String name) {
    for (const Json *one = first_of(object); one != NULL; one = one->next) {
        if (same(key_of(one), name)) {
            return one;
        }
    }
    return NULL;
}

static void check_tokenizer_spec(Problems *problems, const Json *tokenizer) {
    int64_t size = integer_member(tokenizer, "vocabulary_size", 0), max_length = integer_member(tokenizer, "max_length", 1);
    int64_t pad = integer_member(tokenizer, "pad_id", 0), min_length = integer_member(tokenizer, "min_length", 0);
    if (!is(string_member(tokenizer, "padding_side"), "right")) {
        note(problems, "tokenizer.padding_side is not 'right'");
    }
    if (size < 1 || size > INT32_MAX) {
        note(problems, "tokenizer.vocabulary_size is not a size of a vocabulary");
    }
    if (max_length < 1) {
        note(problems, "tokenizer.max_length must be at least 1");
    }
    if (min_length != 0 && min_length != 1) {
        note(problems, "tokenizer.min_length must be 0 or 1");
    }
    if (pad < 0 || pad >= (size < 1 ? 1 : size)) {
        note(problems, "tokenizer.pad_id must be at least 0 and below vocabulary_size");
    }
    for (const Json *one = first_of(member(tokenizer, "special_ids")); one != NULL; one = one->next) {
        if (one->integer < 0 || one->integer >= (size < 1 ? 1 : size)) {
            note(problems, "tokenizer.special_ids must be at least 0 and below vocabulary_size");
        }
    }
}

static void check_section(Problems *problems, const Json *section, int64_t dimension) {
    static const char *const SIMILARITIES[] = {"cosine", "dot", "euclidean", "manhattan"};
    if (!is_one_of(string_member(section, "similarity"), SIMILARITIES, COUNT_OF(SIMILARITIES))) {
        note(problems, "embedding.similarity %s is not known", quote(problems->arena, string_member(section, "similarity")));
    }
    if (dimension < 1 || dimension > MAX_WIDTH) {
        note(problems, "embedding.dimension must be 1 to %d", MAX_WIDTH);
    }
    if (integer_member(section, "truncate_dim", 1) < 1) {
        note(problems, "embedding.truncate_dim must be at least 1");
    }
    for (const Json *row = first_of(member(section, "ranges")); row != NULL; row = row->next) {
        bool is_right = (int64_t)row->length == dimension;
        for (const Json *one = row->first; one != NULL && is_right; one = one->next) {
            is_right = fabs(number_in(one)) <= 3.4e38;
        }
        if (!is_right) {
            note(problems, "embedding.ranges must be two lists of %" PRId64 " numbers", dimension);
        }
    }
}

static void check_graph_spec(Problems *problems, const Json *graph, size_t place, int64_t dimension) {
    static const char *const DOMAINS[] = {"", "ai.onnx", "com.microsoft"};
    for (const Json *one = first_of(member(graph, "op_domains")); one != NULL; one = one->next) {
        if (!is_one_of(string_in(one), DOMAINS, COUNT_OF(DOMAINS))) {
            note(problems, "graphs[%zu].op_domains has the unknown %s", place, quote(problems->arena, string_in(one)));
        }
    }
    const Json *inputs = member(graph, "inputs"), *outputs = member(graph, "outputs");
    if (member_named(inputs, string_of("input_ids")) == NULL) {
        note(problems, "graphs[%zu].inputs must have input_ids", place);
    }
    for (const Json *one = first_of(inputs); one != NULL; one = one->next) {
        if (!is_one_of(key_of(one), GRAPH_INPUTS, COUNT_OF(GRAPH_INPUTS))) {
            note(problems, "graphs[%zu].inputs may not have %s", place, quote(problems->arena, key_of(one)));
        }
    }
    if (integer_member(graph, "max_batch_size", 1) < 1) {
        note(problems, "graphs[%zu].max_batch_size must be at least 1", place);
    }
    for (const Json *one = first_of(member(graph, "parts")); one != NULL; one = one->next) {
        if (one->integer < 0) {
            note(problems, "graphs[%zu].parts has a size that no file has", place);
        }
    }
    if (outputs->length != 1) {
        note(problems, "graphs[%zu].outputs must name one output", place);
    }
    for (const Json *one = first_of(outputs); one != NULL; one = one->next) {
        const Json *last = NULL;
        for (const Json *size = first_of(member(one, "shape")); size != NULL; size = size->next) {
            last = size;
        }
        if (last == NULL || last->type != JSON_INTEGER || last->integer != dimension) {
            note(problems, "graphs[%zu].outputs: the last axis is not embedding.dimension, %" PRId64, place, dimension);
        }
    }
}

static bool is_plain_name(String name) {
    if (name.length == 0 || is(name, ".") || is(name, "..") || name.length > 255) {
        return false;
    }
    for (size_t i = 0, length; i < name.length; i += length) {
        uint32_t code = decode(name.bytes + i, &length);
        if (code == '/' || code == '\\' || code == ':' || IN(NOT_PRINTABLE, code)) {
            return false;
        }
    }
    return true;
}

static void check_listed(Problems *problems, const Json *files, String name) {
    if (member_named(files, name) == NULL) {
        note(problems, "%s is used but not listed in files", quote(problems->arena, name));
    }
}

/* Require that `further_precisions` describes exactly the precisions of the graphs after the first. */
static void check_precisions(Problems *problems, const Json *json, const Json *files) {
    const Json *further = member(json, "further_precisions"), *graphs = member(json, "graphs");
    String first = string_member(first_of(graphs), "precision");
    for (const Json *graph = first_of(graphs); graph != NULL; graph = graph->next) {
        String precision = string_member(graph, "precision");
        if (!same(precision, first) && member_named(further, precision) == NULL) {
            note(problems, "further_precisions lacks the precision %s of a graph", quote(problems->arena, precision));
        }
    }
    for (const Json *one = first_of(further); one != NULL; one = one->next) {
        bool has_graph = false;
        for (const Json *graph = first_of(graphs); graph != NULL; graph = graph->next) {
            has_graph = has_graph || same(string_member(graph, "precision"), key_of(one));
        }
        if (!has_graph || same(key_of(one), first)) {
            note(problems, "further_precisions has %s, which is no precision of a graph after the first",
                 quote(problems->arena, key_of(one)));
        }
        check_listed(problems, files, string_member(one, "probes"));
        if (ends_with(string_member(one, "probes"), WEIGHTS_SUFFIX)) {
            note(problems, "probes are named as weights are");
        }
    }
}

static void check_consistency(Problems *problems, const Json *json, Manifest *manifest) {
    check_section(problems, manifest->section, manifest->dimension);
    check_tokenizer_spec(problems, manifest->tokenizer);
    const Json *default_name = member(json, "default_prompt_name");
    if (default_name != NULL && member_named(manifest->prompts, string_in(default_name)) == NULL) {
        note(problems, "default_prompt_name %s is not among prompts", quote(problems->arena, string_in(default_name)));
    }
    const Json *graphs = member(json, "graphs");
    if (graphs->length == 0) {
        note(problems, "graphs is empty");
    }
    size_t place = 0;
    bool has_weights = false;
    for (const Json *graph = graphs->first; graph != NULL; graph = graph->next, place++) {
        check_graph_spec(problems, graph, place, manifest->dimension);
        check_listed(problems, manifest->files, string_member(graph, "file"));
        /* By other names engines take a file for another format, or its hash is not compared. */
        if (!ends_with(string_member(graph, "file"), GRAPH_SUFFIX)) {
            note(problems, "the graph %s is not named *.onnx", quote(problems->arena, string_member(graph, "file")));
        }
        if (member(graph, "route") != NULL && member(json, "routing") == NULL) {
            note(problems, "graphs[%zu] has a route, and there is no routing", place);
        }
    }
    check_precisions(problems, json, manifest->files);
    check_listed(problems, manifest->files, manifest->tokenizer_file);
    check_listed(problems, manifest->files, string_of(PROBES_FILE));
    if (ends_with(manifest->tokenizer_file, WEIGHTS_SUFFIX)) {
        note(problems, "the tokenizer is named as weights are");
    }
    for (const Json *file = first_of(manifest->files); file != NULL; file = file->next) {
        has_weights = has_weights || ends_with(key_of(file), WEIGHTS_SUFFIX);
    }
    if (!has_weights) {
        note(problems, "files lists no weights (*.onnx.data)");
    }
}

/* Return a graph's file of weights: its own, or the first that is listed, which graphs share. */
static String weights_of(Arena *arena, const Json *files, String graph_file) {
    size_t stem = graph_file.length - strlen(GRAPH_SUFFIX);
    String own = string_of(format_text(arena, "%.*s%s", (int)stem, graph_file.bytes, WEIGHTS_SUFFIX));
    if (member_named(files, own) != NULL) {
        return own;
    }
    for (const Json *file = first_of(files); file != NULL; file = file->next) {
        if (ends_with(key_of(file), WEIGHTS_SUFFIX)) {
            return key_of(file);
        }
    }
    return own;
}

/* Take what is needed from a manifest, and note everything that is wrong with it. */
static Manifest read_manifest(Problems *problems, const Json *json) {
    static const char *const SECTIONS[] = {"rerank", "sparse"};
    Manifest manifest = {.json = json};
    const Json *version = member(json, "format_version");
    if (version == NULL || version->type != JSON_INTEGER || version->integer != FORMAT_VERSION) {
        /* Another version may shape its keys differently, so nothing else can be said of it. */
        note(problems, "format_version is not known to this reader, which reads %d", FORMAT_VERSION);
        return manifest;
    }
    if (!is(string_member(json, "task"), "embedding")) {
        note(problems, "the task %s is not supported: this reader reads 'embedding'",
             quote(problems->arena, string_member(json, "task")));
        return manifest;
    }
    check_object(problems, json, "", &MANIFEST_RULE);
    if (member(json, "compression") == NULL && typed_member(json, "quality", JSON_OBJECT) != NULL) {
        check_object(problems, member(json, "quality"), "quality", &OLD_QUALITY_RULE);
    }
    for (size_t i = 0; i < COUNT_OF(SECTIONS); i++) {
        if (member(json, SECTIONS[i]) != NULL) {
            note(problems, "%s is there, and the task is 'embedding'", SECTIONS[i]);
        }
    }
    if (problems->count != 0) {
        return manifest;
    }
    manifest.files = member(json, "files");
    manifest.prompts = member(json, "prompts");
    manifest.section = member(json, "embedding");
    manifest.tokenizer = member(json, "tokenizer");
    manifest.tokenizer_file = string_member(manifest.tokenizer, "file");
    manifest.dimension = integer_member(manifest.section, "dimension", 0);
    manifest.truncate_dim = integer_member(manifest.section, "truncate_dim", manifest.dimension);
    manifest.truncate_dim = manifest.truncate_dim < manifest.dimension ? manifest.truncate_dim : manifest.dimension;
    manifest.max_length = integer_member(manifest.tokenizer, "max_length", 0);
    manifest.vocabulary_size = integer_member(manifest.tokenizer, "vocabulary_size", 0);
    manifest.pad_id = integer_member(manifest.tokenizer, "pad_id", 0);
    manifest.needs_tokens = integer_member(manifest.tokenizer, "min_length", 0) == 1;
    check_consistency(problems, json, &manifest);
    if (member(json, "routing") != NULL) {
        note(problems, "routing is not supported by this reader");
    }
    for (const Json *graph = first_of(member(json, "graphs")); graph != NULL && manifest.graph == NULL; graph = graph->next) {
        for (const Json *device = first_of(member(graph, "devices")); device != NULL; device = device->next) {
            manifest.graph = is(string_in(device), "cpu") ? graph : manifest.graph;
        }
    }
    if (manifest.graph == NULL) {
        note(problems, "no graph is for the device 'cpu'");
    }
    if (problems->count != 0) {
        return manifest;
    }
    manifest.graph_file = string_member(manifest.graph, "file");
    manifest.precision = string_member(manifest.graph, "precision");
    const Json *further = member_named(member(json, "further_precisions"), manifest.precision);
    manifest.probes_file = further == NULL ? string_of(PROBES_FILE) : string_member(further, "probes");
    manifest.max_batch_size = integer_member(manifest.graph, "max_batch_size", INT64_MAX);
    manifest.has_pooling_mask = member(member(manifest.graph, "inputs"), "pooling_mask") != NULL;
    manifest.weights_file = weights_of(problems->arena, manifest.files, manifest.graph_file);
    return manifest;
}

/* The files of a bundle that are read whole, once, and the tables of the graph. */
typedef struct {
    String graph, tokenizer;
    Tables tables;
} Contents;

/* Hash a file block by block; return whether it could be read. */
static bool hash_file(int folder, const char *name, char digits[65]) {
    static const size_t PART = 1 << 16;
    struct stat status;
    const char *problem = NULL;
    char *part = malloc(PART);
    int handle = part == NULL ? -1 : open_regular(folder, name, &status, &problem);
    Sha256 hash = sha256_start();
    ssize_t count = -1;
    while (handle >= 0 && ((count = read(handle, part, PART)) > 0 || (count < 0 && errno == EINTR))) {
        sha256_add(&hash, part, count > 0 ? (size_t)count : 0);
    }
    if (handle >= 0) {
        close(handle);
    }
    free(part);
    sha256_finish(&hash, digits);
    return count == 0;
}

/* Compare a file with its entry in the manifest. Files that are used are read once: what is hashed is what is used. */
static void check_file(Problems *problems, int folder, const Json *entry, bool check_weights, String *content) {
    Arena *arena = problems->arena;
    String name = key_of(entry);
    if (!is_plain_name(name)) {
        note(problems, "%s is not a plain file name and could leave the folder", quote(arena, name));
        return;
    }
    const char *path = copy_string(arena, name).bytes, *title = quote(arena, name), *problem = NULL;
    int64_t stated = integer_member(entry, "bytes", 0);
    struct stat status;
    char digits[65];
    if (fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        note(problems, "%s is missing", title);
        return;
    }
    if (!S_ISREG(status.st_mode)) {
        note(problems, S_ISLNK(status.st_mode) ? "%s is a link; a bundle holds real files" : "%s is not a regular file", title);
        return;
    }
    if (status.st_size != stated) {
        note(problems, "%s has %" PRId64 " bytes instead of %" PRId64, title, (int64_t)status.st_size, stated);
        return;
    }
    if (content != NULL) {
        *content = read_file(arena, folder, path, (size_t)stated, &problem);
        if (content->bytes == NULL) {
            note(problems, "%s %s", title, problem);
            return;
        }
        sha256_of(content->bytes, content->length, digits);
    } else if (!check_weights && ends_with(name, WEIGHTS_SUFFIX)) {
        return;
    } else if (!hash_file(folder, path, digits)) {
        note(problems, "%s cannot be read", title);
        return;
    }
    if (!is(string_member(entry, "sha256"), digits)) {
        note(problems, "%s was changed: its sha256 is not the manifest's", title);
    }
}

static void check_files(Problems *problems, int folder, const Manifest *manifest, bool check_weights, Contents *contents) {
    uint64_t hashed = 0;
    for (const Json *file = first_of(manifest->files); file != NULL; file = file->next) {
        int64_t bytes = integer_member(file, "bytes", 0);
        hashed += !ends_with(key_of(file), WEIGHTS_SUFFIX) && bytes > 0 ? (uint64_t)bytes : 0;
        if (hashed > MAX_HASHED_BYTES) {
            note(problems, "files lists more bytes beside the weights than any bundle has");
            return;
        }
    }
    for (const Json *file = first_of(manifest->files); file != NULL; file = file->next) {
        String name = key_of(file);
        bool is_graph = same(name, manifest->graph_file) && integer_member(file, "bytes", 0) <= MAX_GRAPH_BYTES;
        String *content = is_graph ? &contents->graph : same(name, manifest->tokenizer_file) ? &contents->tokenizer : NULL;
        check_file(problems, folder, file, check_weights, content);
    }
}

/* Read the bundle's graphs, those for other devices too, and note what an engine must not be given. */
static void check_graphs(Problems *problems, int folder, const Manifest *manifest, Contents *contents) {
    Arena *arena = problems->arena;
    uint64_t total = 0;
    const Json *graphs = member(manifest->json, "graphs");
    for (const Json *graph = first_of(graphs); graph != NULL; graph = graph->next) {
        bool is_first = true;
        for (const Json *before = first_of(graphs); before != graph; before = before->next) {
            is_first = is_first && !same(string_member(before, "file"), string_member(graph, "file"));
        }
        int64_t bytes = integer_member(member_named(manifest->files, string_member(graph, "file")), "bytes", 0);
        total += is_first && bytes > 0 ? (uint64_t)bytes : 0;
        if (total > MAX_GRAPH_BYTES) {
            note(problems, "its graphs have more than %d bytes", MAX_GRAPH_BYTES);
            return;
        }
    }
    for (const Json *graph = first_of(graphs); graph != NULL; graph = graph->next) {
        String name = string_member(graph, "file"), weights = weights_of(arena, manifest->files, name);
        const char *problem = NULL;
        bool is_used = same(name, manifest->graph_file);
        String content = is_used ? contents->graph
                                 : read_file(arena, folder, copy_string(arena, name).bytes, MAX_GRAPH_BYTES, &problem);
        if (content.bytes == NULL) {
            note(problems, "%s %s", quote(arena, name), problem == NULL ? "cannot be read" : problem);
            continue;
        }
        int64_t size = integer_member(member_named(manifest->files, weights), "bytes", 0);
        Tables tables = find_graph_problems(problems, quote(arena, name), content, weights, size < 0 ? 0 : (uint64_t)size,
                                            member(graph, "op_domains"));
        contents->tables = is_used ? tables : contents->tables;
    }
}

static void check_measurements(Problems *problems, int folder, const Manifest *manifest) {
    struct stat status;
    if (fstatat(folder, MEASUREMENTS_FILE, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return;
    }
    const char *problem = NULL;
    Arena *arena = problems->arena;
    String text = read_file(arena, folder, MEASUREMENTS_FILE, MAX_MANIFEST_BYTES, &problem);
    const Json *json = text.bytes == NULL ? NULL : parse_json(arena, text, MAX_MANIFEST_VALUES, true, &problem);
    if (json == NULL) {
        note(problems, "%s %s", MEASUREMENTS_FILE, problem);
        return;
    }
    check_object(problems, json, MEASUREMENTS_FILE, &MEASUREMENTS_RULE);
    if (!is(string_member(json, "manifest_sha256"), manifest->sha256)) {
        note(problems, "%s belongs to another manifest.json, by its sha256: remove it", MEASUREMENTS_FILE);
    }
}

/* Read and check a bundle's files, everything before a graph meets an engine. The manifest goes to `arena`, the contents
 * to `scratch`. */
static Manifest open_files(Arena *arena, Arena *scratch, int folder, const char *path, bool check_weights,
                           Contents *contents) {
    Problems problems = {.arena = arena};
    const char *problem = NULL;
    String text = read_file(arena, folder, MANIFEST_FILE, MAX_MANIFEST_BYTES, &problem);
    const Json *json = text.bytes == NULL ? NULL : parse_json(arena, text, MAX_MANIFEST_VALUES, true, &problem);
    if (json == NULL) {
        fail(arena->trap, MONOGRAPH_BUNDLE_ERROR, "%s: %s %s", path, MANIFEST_FILE, problem);
    }
    Manifest manifest = {0};
    if (json->type != JSON_OBJECT) {
        note(&problems, "%s must be an object", MANIFEST_FILE);
    } else {
        manifest = read_manifest(&problems, json);
    }
    sha256_of(text.bytes, text.length, manifest.sha256);
    problems.arena = scratch;
    if (problems.count == 0) {
        check_files(&problems, folder, &manifest, check_weights, contents);
        check_measurements(&problems, folder, &manifest);
    }
    if (problems.count == 0) {
        check_graphs(&problems, folder, &manifest, contents);
    }
    if (problems.count != 0) {
        fail(arena->trap, MONOGRAPH_BUNDLE_ERROR, "%s: %s", path, joined(&problems));
    }
    return manifest;
}

/* ================================================== 8. Vocabularies =============================================== */

typedef struct {
    const char *text;
    uint32_t length;
    int32_t id;
} Word;

/* Words in the order of their bytes, so that those which begin alike lie together. */
typedef struct {
    Word *words;
    size_t count;
} Lexicon;

/* The words of a lexicon that begin with the bytes so far. */
typedef struct {
    size_t low, high;
    uint32_t depth;
} Prefix;

static int compare_words(const void *first, const void *second) {
    const Word *a = first, *b = second;
    int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    if (order != 0 || a->length != b->length) {
        return order != 0 ? order : a->length < b->length ? -1 : 1;
    }
    return (a->id > b->id) - (a->id < b->id);
}

/* Sort the words; of equal ones the last id stays, as in a dictionary that is filled in order. */
static void sort_lexicon(Lexicon *lexicon) {
    if (lexicon->count == 0) {
        return;
    }
    qsort(lexicon->words, lexicon->count, sizeof *lexicon->words, compare_words);
    size_t retained = 0;
    for (size_t i = 1; i < lexicon->count; i++) {
        Word *last = &lexicon->words[retained], *word = &lexicon->words[i];
        bool is_same = last->length == word->length && memcmp(last->text, word->text, word->length) == 0;
        retained += !is_same;
        lexicon->words[retained] = *word;
    }
    lexicon->count = retained + 1;
}

static Prefix whole(const Lexicon *lexicon) { return (Prefix){0, lexicon->count, 0}; }

static int byte_at(const Word *word, uint32_t depth) {
    return depth < word->length ? (unsigned char)word->text[depth] : -1;
}

/* Return the first place from `low` whose byte at the prefix's depth is at least `byte`. */
static size_t first_place(const Lexicon *lexicon, size_t low, size_t high, uint32_t depth, int byte) {
    size_t place;
    FIND_FIRST(place, low, high, byte_at(&lexicon->words[place], depth) < byte);
    return place;
}

/* Narrow a prefix by one more byte; return whether any word is left. */
static bool narrow(const Lexicon *lexicon, Prefix *prefix, char next) {
    int byte = (unsigned char)next;
    prefix->low = first_place(lexicon, prefix->low, prefix->high, prefix->depth, byte);
    prefix->high = first_place(lexicon, prefix->low, prefix->high, prefix->depth, byte + 1);
    prefix->depth++;
    return prefix->low < prefix->high;
}

static bool narrow_all(const Lexicon *lexicon, Prefix *prefix, String text) {
    for (size_t i = 0; i < text.length; i++) {
        if (!narrow(lexicon, prefix, text.bytes[i])) {
            return false;
        }
    }
    return prefix->low < prefix->high;
}

/* Return the word that is the prefix itself, NULL if there is none. */
static const Word *exact(const Lexicon *lexicon, const Prefix *prefix) {
    const Word *word = prefix->low < prefix->high ? &lexicon->words[prefix->low] : NULL;
    return word != NULL && word->length == prefix->depth ? word : NULL;
}

static int32_t id_of(const Lexicon *lexicon, String text) {
    Prefix prefix = whole(lexicon);
    const Word *word = narrow_all(lexicon, &prefix, text) ? exact(lexicon, &prefix) : NULL;
    return word == NULL ? -1 : word->id;
}

/* Return the longest word at the start of a text, NULL if there is none. */
static const Word *longest(const Lexicon *lexicon, Prefix prefix, String text) {
    const Word *found = NULL;
    for (size_t i = 0; i < text.length && narrow(lexicon, &prefix, text.bytes[i]); i++) {
        const Word *word = exact(lexicon, &prefix);
        found = word != NULL ? word : found;
    }
    return found;
}

/* =============================================== 9. Regular expressions =========================================== */

/* Those of tokenizer.json, as Oniguruma reads them: sets of characters, groups, alternatives, quantifiers and lookahead.
 * Anything else is refused. Matching backtracks, with a limit. */

enum { REGEX_DEPTH = 50, MATCH_DEPTH = 3000, MATCH_STEPS = 4000000, MANY = INT_MAX };

typedef struct {
    const Range *ranges; /* of a table; NULL for the range from `first` to `last` */
    size_t count;
    uint32_t first, last;
    bool is_negated;
} SetItem;

typedef struct {
    SetItem *items;
    size_t count, capacity;
    bool is_negated, ignores_case;
} Set;

typedef enum { MATCH_SET, MATCH_GROUP, MATCH_AHEAD, MATCH_NOT_AHEAD, MATCH_LINE_START, MATCH_LINE_END } NodeKind;

typedef struct Node Node;

typedef struct {
    Node **items; /* the first node of each alternative, NULL for an empty one */
    size_t count, capacity;
} Alternatives;

struct Node {
    Node *next;
    NodeKind kind;
    int minimum, maximum;
    bool is_lazy, is_possessive;
    Set set;
    Alternatives alternatives;
};

typedef struct {
    Arena *arena;
    String pattern;
    size_t place;
    bool ignores_case;
    int depth;
} RegexReader;

_Noreturn static void refuse_regex(RegexReader *reader) {
    fail(reader->arena->trap, MONOGRAPH_BUNDLE_ERROR, "the tokenizer's regular expression %s is not supported by this reader",
         quote(reader->arena, reader->pattern));
}

static int peek(const RegexReader *reader) {
    return reader->place < reader->pattern.length ? (unsigned char)reader->pattern.bytes[reader->place] : -1;
}

static bool accept(RegexReader *reader, const char *text) {
    size_t length = strlen(text);
    if (reader->pattern.length - reader->place < length ||
        memcmp(reader->pattern.bytes + reader->place, text, length) != 0) {
        return false;
    }
    reader->place += length;
    return true;
}

static void add_table(RegexReader *reader, Set *set, const Range *ranges, size_t count, bool is_negated) {
    PUSH(reader->arena, *set, ((SetItem){.ranges = ranges, .count = count, .is_negated = is_negated}));
}

#define ADD_TABLE(reader, set, table, negated) add_table((reader), (set), (table), COUNT_OF(table), (negated))

static void add_category(RegexReader *reader, Set *set, bool is_negated) {
    static const struct {
        const char *name;
        const Range *ranges;
        size_t count;
    } CATEGORIES[] = {
        {"{L}", CATEGORY_L, COUNT_OF(CATEGORY_L)},    {"{N}", CATEGORY_N, COUNT_OF(CATEGORY_N)},
        {"{Nd}", CATEGORY_ND, COUNT_OF(CATEGORY_ND)}, {"{M}", CATEGORY_M, COUNT_OF(CATEGORY_M)},
        {"{P}", CATEGORY_P, COUNT_OF(CATEGORY_P)},    {"{S}", CATEGORY_S, COUNT_OF(CATEGORY_S)},
        {"{Lu}", CATEGORY_LU, COUNT_OF(CATEGORY_LU)}, {"{Ll}", CATEGORY_LL, COUNT_OF(CATEGORY_LL)},
        {"{Lt}", CATEGORY_LT, COUNT_OF(CATEGORY_LT)}, {"{Lm}", CATEGORY_LM, COUNT_OF(CATEGORY_LM)},
        {"{Lo}", CATEGORY_LO, COUNT_OF(CATEGORY_LO)},
    };
    for (size_t i = 0; i < COUNT_OF(CATEGORIES); i++) {
        if (accept(reader, CATEGORIES[i].name)) {
            add_table(reader, set, CATEGORIES[i].ranges, CATEGORIES[i].count, is_negated);
            return;
        }
    }
    refuse_regex(reader);
}

/* Read an escape behind its backslash: a class, which is added, or one character, which is returned; -1 for a class. */
static int64_t read_escape(RegexReader *reader, Set *set) {
    int name = peek(reader);
    reader->place++;
    switch (name) {
    case 'p': add_category(reader, set, false); return -1;
    case 'P': add_category(reader, set, true); return -1;
    case 's': ADD_TABLE(reader, set, REGEX_SPACE, false); return -1;
    case 'S': ADD_TABLE(reader, set, REGEX_SPACE, true); return -1;
    case 'w': ADD_TABLE(reader, set, REGEX_WORD, false); return -1;
    case 'W': ADD_TABLE(reader, set, REGEX_WORD, true); return -1;
    case 'd': ADD_TABLE(reader, set, CATEGORY_ND, false); return -1;
    case 'D': ADD_TABLE(reader, set, CATEGORY_ND, true); return -1;
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    default: break;
    }
    if (name < 0 || isalnum(name) || name >= 0x80) {
        refuse_regex(reader);
    }
    return name;
}

static uint32_t read_character(RegexReader *reader) {
    size_t length;
    uint32_t code = decode(reader->pattern.bytes + reader->place, &length);
    reader->place += length;
    return code;
}

static void add_range(RegexReader *reader, Set *set, uint32_t first, uint32_t last) {
    PUSH(reader->arena, *set, ((SetItem){.first = first, .last = last}));
}

/* Read a set behind its bracket. */
static void read_set(RegexReader *reader, Set *set) {
    set->is_negated = accept(reader, "^");
    bool is_first = true;
    while (peek(reader) != ']' || is_first) {
        is_first = false;
        /* Oniguruma has sets within sets, and intersections. */
        if (peek(reader) < 0 || peek(reader) == '[' || (peek(reader) == '&' && accept(reader, "&&"))) {
            refuse_regex(reader);
        }
        int64_t first = accept(reader, "\\") ? read_escape(reader, set) : (int64_t)read_character(reader);
        if (first < 0) {
            continue;
        }
        bool is_range = peek(reader) == '-' && reader->place + 1 < reader->pattern.length &&
                        reader->pattern.bytes[reader->place + 1] != ']';
        int64_t last = first;
        if (is_range) {
            reader->place++;
            last = accept(reader, "\\") ? read_escape(reader, set) : (int64_t)read_character(reader);
            if (last < first) {
                refuse_regex(reader);
            }
        }
        add_range(reader, set, (uint32_t)first, (uint32_t)last);
    }
    reader->place++;
}

static int read_count(RegexReader *reader, int otherwise) {
    int value = 0;
    bool is_there = false;
    while (isdigit(peek(reader))) {
        value = value * 10 + (peek(reader) - '0');
        is_there = true;
        reader->place++;
        if (value > 1000) {
            refuse_regex(reader);
        }
    }
    return is_there ? value : otherwise;
}

static void read_quantifier(RegexReader *reader, Node *node) {
    node->minimum = node->maximum = 1;
    bool is_interval = false;
    if (accept(reader, "*")) {
        node->minimum = 0;
        node->maximum = MANY;
    } else if (accept(reader, "+")) {
        node->maximum = MANY;
    } else if (accept(reader, "?")) {
        node->minimum = 0;
    } else if (accept(reader, "{")) {
        is_interval = true;
        node->minimum = read_count(reader, -1);
        node->maximum = node->minimum;
        if (node->minimum < 0) {
            refuse_regex(reader);
        }
        if (accept(reader, ",")) {
            node->maximum = read_count(reader, MANY);
        }
        if (!accept(reader, "}") || node->maximum < node->minimum) {
            refuse_regex(reader);
        }
    } else {
        return;
    }
    if (accept(reader, "?")) {
        node->is_lazy = true;
    } else if (!is_interval && accept(reader, "+")) {
        node->is_possessive = true;
    }
    int next = peek(reader);
    if (next == '*' || next == '+' || next == '?' || next == '{' || (node->is_possessive && node->kind != MATCH_SET)) {
        refuse_regex(reader);
    }
}

static void read_alternatives(RegexReader *reader, Alternatives *alternatives);

static void read_group(RegexReader *reader, Node *node) {
    bool outer_case = reader->ignores_case;
    node->kind = MATCH_GROUP;
    if (accept(reader, "?")) {
        if (accept(reader, "=")) {
            node->kind = MATCH_AHEAD;
        } else if (accept(reader, "!")) {
            node->kind = MATCH_NOT_AHEAD;
        } else if (accept(reader, "i:")) {
            reader->ignores_case = true;
        } else if (!accept(reader, ":")) {
            refuse_regex(reader);
        }
    }
    read_alternatives(reader, &node->alternatives);
    if (!accept(reader, ")")) {
        refuse_regex(reader);
    }
    reader->ignores_case = outer_case;
}

static Node *read_node(RegexReader *reader) {
    Node *node = NEW_ZEROS(reader->arena, Node, 1);
    node->set.ignores_case = reader->ignores_case;
    int byte = peek(reader);
    if (accept(reader, "(")) {
        read_group(reader, node);
    } else if (accept(reader, "[")) {
        read_set(reader, &node->set);
    } else if (accept(reader, "^")) {
        node->kind = MATCH_LINE_START;
    } else if (accept(reader, "$")) {
        node->kind = MATCH_LINE_END;
    } else if (accept(reader, ".")) {
        node->set.is_negated = true;
        add_range(reader, &node->set, '\n', '\n');
    } else if (accept(reader, "\\")) {
        int64_t code = read_escape(reader, &node->set);
        if (code >= 0) {
            add_range(reader, &node->set, (uint32_t)code, (uint32_t)code);
        }
    } else if (byte == '*' || byte == '+' || byte == '?') {
        refuse_regex(reader);
    } else {
        uint32_t code = read_character(reader);
        add_range(reader, &node->set, code, code);
    }
    read_quantifier(reader, node);
    return node;
}

static void read_alternatives(RegexReader *reader, Alternatives *alternatives) {
    if (++reader->depth > REGEX_DEPTH) {
        refuse_regex(reader);
    }
    do {
        Node *first = NULL, **last = &first;
        while (peek(reader) >= 0 && peek(reader) != '|' && peek(reader) != ')') {
            *last = read_node(reader);
            last = &(*last)->next;
        }
        PUSH(reader->arena, *alternatives, first);
    } while (accept(reader, "|"));
    reader->depth--;
}

static Node *read_regex(Arena *arena, String pattern) {
    RegexReader reader = {.arena = arena, .pattern = pattern};
    Node *root = NEW_ZEROS(arena, Node, 1);
    root->kind = MATCH_GROUP;
    root->minimum = root->maximum = 1;
    read_alternatives(&reader, &root->alternatives);
    if (reader.place != pattern.length) {
        refuse_regex(&reader);
    }
    return root;
}

/* The letters that case folding makes of others, but for ASCII, do not occur in patterns. */
static uint32_t fold(uint32_t code) {
    if (code - 'A' < 26) {
        return code + 32;
    }
    return code == 0x17F ? 's' : code == 0x212A ? 'k' : code;
}

static bool set_has(const Set *set, uint32_t code) {
    for (size_t i = 0; i < set->count; i++) {
        const SetItem *item = &set->items[i];
        bool is_in;
        if (item->ranges != NULL) {
            is_in = in_ranges(item->ranges, item->count, code) != item->is_negated;
        } else {
            is_in = code >= item->first && code <= item->last;
            if (!is_in && set->ignores_case) {
                uint32_t lower = fold(code), upper = lower - 'a' < 26 ? lower - 32 : lower;
                is_in = (lower >= item->first && lower <= item->last) || (upper >= item->first && upper <= item->last);
            }
        }
        if (is_in) {
            return !set->is_negated;
        }
    }
    return set->is_negated;
}

/* What follows a group's alternative: the group again, or what is behind it. */
typedef struct Follow {
    const Node *group;
    int count;
    size_t start;
    const struct Follow *outer;
} Follow;

typedef struct {
    String text;
    size_t end;
    int depth;
    long steps;
    bool is_costly;
} Matcher;

static bool match(Matcher *matcher, const Node *node, size_t place, const Follow *follow);

static bool match_group(Matcher *matcher, const Node *node, int count, size_t place, size_t start, const Follow *follow) {
    bool may_repeat = count < node->maximum && !(count >= node->minimum && place == start);
    for (int round = 0; round < 2; round++) {
        if ((round == 0) != node->is_lazy) {
            Follow inner = {node, count + 1, place, follow};
            for (size_t i = 0; may_repeat && i < node->alternatives.count; i++) {
                if (match(matcher, node->alternatives.items[i], place, &inner)) {
                    return true;
                }
            }
        } else if (count >= node->minimum && match(matcher, node->next, place, follow)) {
            return true;
        }
    }
    return false;
}

static bool match_set(Matcher *matcher, const Node *node, size_t place, const Follow *follow) {
    String text = matcher->text;
    size_t length, end = place;
    int count = 0, wanted = node->is_lazy ? node->minimum : node->maximum;
    for (; count < wanted && end < text.length && set_has(&node->set, decode(text.bytes + end, &length)); count++) {
        end += length;
    }
    if (count < node->minimum) {
        return false;
    }
    for (;;) {
        if (match(matcher, node->next, end, follow)) {
            return true;
        }
        if (node->is_lazy) {
            if (count == node->maximum || end == text.length ||
                !set_has(&node->set, decode(text.bytes + end, &length))) {
                return false;
            }
            count++;
            end += length;
        } else {
            if (count == node->minimum || node->is_possessive) {
                return false;
            }
            count--;
            end = character_before(text, end);
        }
    }
}

static bool match_one(Matcher *matcher, const Node *node, size_t place, const Follow *follow) {
    if (node == NULL) {
        if (follow == NULL) {
            matcher->end = place;
            return true;
        }
        return match_group(matcher, follow->group, follow->count, place, follow->start, follow->outer);
    }
    String text = matcher->text;
    switch (node->kind) {
    case MATCH_SET: return match_set(matcher, node, place, follow);
    case MATCH_GROUP: return match_group(matcher, node, 0, place, SIZE_MAX, follow);
    case MATCH_LINE_START:
        return (place == 0 || text.bytes[place - 1] == '\n') && match(matcher, node->next, place, follow);
    case MATCH_LINE_END:
        return (place == text.length || text.bytes[place] == '\n') && match(matcher, node->next, place, follow);
    case MATCH_AHEAD:
    case MATCH_NOT_AHEAD: {
        bool is_ahead = false;
        for (size_t i = 0; i < node->alternatives.count && !is_ahead; i++) {
            is_ahead = match(matcher, node->alternatives.items[i], place, NULL);
        }
        return is_ahead == (node->kind == MATCH_AHEAD) && match(matcher, node->next, place, follow);
    }
    }
    return false;
}

static bool match(Matcher *matcher, const Node *node, size_t place, const Follow *follow) {
    if (matcher->is_costly || matcher->depth >= MATCH_DEPTH || ++matcher->steps > MATCH_STEPS) {
        matcher->is_costly = true;
        return false;
    }
    matcher->depth++;
    bool is_match = match_one(matcher, node, place, follow);
    matcher->depth--;
    return is_match;
}

/* Find the first match from a place on that is not empty. */
static bool find_match(Arena *arena, const Node *regex, String text, size_t from, size_t *start, size_t *end) {
    Matcher matcher = {.text = text};
    for (size_t place = from; place < text.length; place++) {
        if (is_inner(text.bytes[place])) {
            continue;
        }
        if (match(&matcher, regex, place, NULL) && matcher.end > place) {
            *start = place;
            *end = matcher.end;
            return true;
        }
        if (matcher.is_costly) {
            fail(arena->trap, MONOGRAPH_BUNDLE_ERROR, "a regular expression of the tokenizer takes too long for this text");
        }
    }
    return false;
}

/* ======================================= 10. Normalizers and pre-tokenizers ======================================= */

typedef enum {
    NORMALIZE_BERT, NORMALIZE_NFC, NORMALIZE_NFD, NORMALIZE_NFKC, NORMALIZE_NFKD, NORMALIZE_LOWERCASE, NORMALIZE_STRIP,
    NORMALIZE_ACCENTS, NORMALIZE_REPLACE, NORMALIZE_PREPEND, NORMALIZE_PRECOMPILED, NORMALIZE_NMT,
} NormalizerKind;

typedef struct {
    NormalizerKind kind;
    bool cleans, pads_chinese, strips_accents, lowercases; /* BERT */
    bool strips_left, strips_right;
    const Node *regex; /* Replace; NULL for `pattern` */
    String pattern, content;
    const uint32_t *trie; /* Precompiled: a double array, and the texts that its values are places of */
    size_t trie_size;
    String texts;
} Normalizer;

static void append_lower(Arena *arena, Buffer *out, uint32_t code) {
    const Mapping *mapping = code < 0x80 ? NULL : find_mapping(LOWERCASE, COUNT_OF(LOWERCASE), code);
    if (mapping == NULL) {
        append_code(arena, out, code - 'A' < 26 ? code + 32 : code);
        return;
    }
    for (size_t i = 0; i < mapping->count; i++) {
        append_code(arena, out, LOWERCASE_POOL[mapping->place + i]);
    }
}

static String lowercased(Arena *arena, String text) {
    Buffer out = {0};
    for (size_t i = 0, length; i < text.length; i += length) {
        append_lower(arena, &out, decode(text.bytes + i, &length));
    }
    return written(&out);
}

static Codes decomposed(Arena *arena, String text, bool compatible) {
    Codes codes = {0};
    for (size_t i = 0, length; i < text.length; i += length) {
        push_decomposed(arena, &codes, decode(text.bytes + i, &length), compatible);
    }
    order_marks(arena, &codes);
    return codes;
}

static bool is_ascii(String text) {
    for (size_t i = 0; i < text.length; i++) {
        if ((unsigned char)text.bytes[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

static String normalized_form(Arena *arena, String text, bool compatible, bool composes) {
    if (is_ascii(text)) {
        return text;
    }
    Codes codes = decomposed(arena, text, compatible);
    if (composes) {
        compose_all(&codes);
    }
    Buffer out = {0};
    for (size_t i = 0; i < codes.count; i++) {
        append_code(arena, &out, codes.items[i]);
    }
    return written(&out);
}

static bool is_chinese(uint32_t code) {
    static const Range CHINESE[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
                                    {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    return code >= 0x3400 && IN(CHINESE, code);
}

static String normalize_bert(Arena *arena, const Normalizer *normalizer, String text) {
    Buffer out = {0};
    for (size_t i = 0, length; i < text.length; i += length) {
        uint32_t code = decode(text.bytes + i, &length);
        if (normalizer->cleans) {
            if (IN(BERT_DROPPED, code)) {
                continue;
            }
            code = is_white_space(code) ? ' ' : code;
        }
        if (normalizer->pads_chinese && is_chinese(code)) {
            append(arena, &out, " ", 1);
            append_code(arena, &out, code);
            append(arena, &out, " ", 1);
        } else {
            append_code(arena, &out, code);
        }
    }
    text = written(&out);
    if (normalizer->strips_accents && !is_ascii(text)) {
        Codes codes = decomposed(arena, text, false);
        Buffer stripped = {0};
        for (size_t i = 0; i < codes.count; i++) {
            if (codes.items[i] < 0x80 || !IN(BERT_ACCENTS, codes.items[i])) {
                append_code(arena, &stripped, codes.items[i]);
            }
        }
        text = written(&stripped);
    }
    return normalizer->lowercases ? lowercased(arena, text) : text;
}

static String normalize_strip(const Normalizer *normalizer, String text) {
    size_t start = normalizer->strips_left ? skip_space_right(text, 0) : 0;
    size_t end = normalizer->strips_right ? skip_space_left(text, text.length, start) : text.length;
    return (String){text.bytes + start, end - start};
}

static bool find_pattern(Arena *arena, const Node *regex, String pattern, String text, size_t from, size_t *start,
                         size_t *end) {
    if (regex != NULL) {
        return find_match(arena, regex, text, from, start, end);
    }
    const char *found = pattern.length == 0 || from >= text.length
                            ? NULL
                            : memmem(text.bytes + from, text.length - from, pattern.bytes, pattern.length);
    if (found == NULL) {
        return false;
    }
    *start = (size_t)(found - text.bytes);
    *end = *start + pattern.length;
    return true;
}

static String normalize_replace(Arena *arena, const Normalizer *normalizer, String text) {
    Buffer out = {0};
    size_t place = 0, start, end;
    while (find_pattern(arena, normalizer->regex, normalizer->pattern, text, place, &start, &end)) {
        append(arena, &out, text.bytes + place, start - place);
        append_string(arena, &out, normalizer->content);
        place = end;
    }
    if (place == 0) {
        return text;
    }
    append(arena, &out, text.bytes + place, text.length - place);
    return written(&out);
}

/* Return the text that the trie has for the shortest of its keys at the start of a text; bytes NULL for none. */
static String look_up(const Normalizer *normalizer, String text) {
    const uint32_t *trie = normalizer->trie;
    size_t place = 0;
    for (size_t i = 0; i <= text.length; i++) {
        if (place >= normalizer->trie_size) {
            break;
        }
        uint32_t unit = trie[place];
        place ^= (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
        /* Behind the first byte: does a key end here? */
        if (i > 0 && unit >> 8 & 1) {
            uint32_t value = place < normalizer->trie_size ? trie[place] & 0x7FFFFFFF : UINT32_MAX;
            if (value > normalizer->texts.length) {
                break;
            }
            const char *found = normalizer->texts.bytes + value;
            return (String){found, strnlen(found, normalizer->texts.length - value)};
        }
        if (i == text.length || text.bytes[i] == 0) {
            break;
        }
        unsigned char byte = (unsigned char)text.bytes[i];
        place ^= byte;
        if (place >= normalizer->trie_size || (trie[place] & 0x800000FF) != byte) {
            break;
        }
    }
    return (String){0};
}

/* Replace as sentencepiece's tables say, but as tokenizers reads them: a cluster of up to 5 bytes is looked up as a whole,
 * and replaced even if only its start is a key; others character by character. */
static String normalize_precompiled(Arena *arena, const Normalizer *normalizer, String text) {
    Buffer out = {0};
    for (size_t i = 0, length; i < text.length; i += length) {
        String cluster = {text.bytes + i, cluster_length((String){text.bytes + i, text.length - i})};
        length = cluster.length;
        String found = cluster.length < 6 ? look_up(normalizer, cluster) : (String){0};
        if (found.bytes != NULL) {
            append_string(arena, &out, found);
            continue;
        }
        for (size_t k = 0, part; k < cluster.length; k += part) {
            decode(cluster.bytes + k, &part);
            String character = {cluster.bytes + k, part};
            found = look_up(normalizer, character);
            append_string(arena, &out, found.bytes != NULL ? found : character);
        }
    }
    return written(&out);
}

static String normalize_nmt(Arena *arena, String text) {
    static const Range DROPPED[] = {{1, 8}, {0xB, 0xB}, {0xE, 0x1F}, {0x7F, 0x7F}, {0x8F, 0x8F}, {0x9F, 0x9F}};
    static const Range SPACES[] = {{9, 0xA},         {0xC, 0xD},       {0x1680, 0x1680}, {0x200B, 0x200F},
                                   {0x2028, 0x2029}, {0x2581, 0x2581}, {0xFEFF, 0xFEFF}, {0xFFFD, 0xFFFD}};
    Buffer out = {0};
    for (size_t i = 0, length; i < text.length; i += length) {
        uint32_t code = decode(text.bytes + i, &length);
        if (!IN(DROPPED, code)) {
            append_code(arena, &out, IN(SPACES, code) ? ' ' : code);
        }
    }
    return written(&out);
}

static String normalize(Arena *arena, const Normalizer *normalizer, String text) {
    Buffer out = {0};
    switch (normalizer->kind) {
    case NORMALIZE_BERT: return normalize_bert(arena, normalizer, text);
    case NORMALIZE_NFC: return normalized_form(arena, text, false, true);
    case NORMALIZE_NFD: return normalized_form(arena, text, false, false);
    case NORMALIZE_NFKC: return normalized_form(arena, text, true, true);
    case NORMALIZE_NFKD: return normalized_form(arena, text, true, false);
    case NORMALIZE_STRIP: return normalize_strip(normalizer, text);
    case NORMALIZE_REPLACE: return normalize_replace(arena, normalizer, text);
    case NORMALIZE_PRECOMPILED: return normalize_precompiled(arena, normalizer, text);
    case NORMALIZE_NMT: return normalize_nmt(arena, text);
    case NORMALIZE_LOWERCASE: return lowercased(arena, text);
    case NORMALIZE_ACCENTS:
        for (size_t i = 0, length; i < text.length; i += length) {
            uint32_t code = decode(text.bytes + i, &length);
            if (!IN(ACCENTS, code)) {
                append_code(arena, &out, code);
            }
        }
        return written(&out);
    case NORMALIZE_PREPEND:
        if (text.length == 0) {
            return text;
        }
        append_string(arena, &out, normalizer->content);
        append_string(arena, &out, text);
        return written(&out);
    }
    return text;
}

/* A part of a text that is tokenized by itself; `is_first` if it begins where the text does. */
typedef struct {
    String text;
    bool is_first;
} Piece;

typedef struct {
    Piece *items;
    size_t count, capacity;
} Pieces;

typedef enum { REMOVED, ISOLATED, CONTIGUOUS, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT } Behavior;

typedef enum { SPLIT_RANGES, SPLIT_WORDS, SPLIT_PATTERN, METASPACE, BYTE_LEVEL } SplitterKind;

typedef enum { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } PrependScheme;

typedef struct {
    SplitterKind kind;
    Behavior behavior;
    const Range *ranges;
    size_t range_count;
    const Node *regex; /* NULL for `pattern` */
    String pattern;    /* of Metaspace, what a space becomes */
    bool is_inverted, splits, adds_space;
    PrependScheme scheme;
} Splitter;

typedef struct {
    size_t start, end;
    bool is_match;
} Span;

typedef struct {
    Span *items;
    size_t count, capacity;
} Spans;

static void push_span(Arena *arena, Spans *spans, size_t start, size_t end, bool is_match) {
    if (start < end) {
        PUSH(arena, *spans, ((Span){start, end, is_match}));
    }
}

/* Each character of some ranges is a match. */
static Spans spans_of_ranges(Arena *arena, const Splitter *splitter, String text) {
    Spans spans = {0};
    size_t start = 0;
    for (size_t i = 0, length; i < text.length; i += length) {
        if (in_ranges(splitter->ranges, splitter->range_count, decode(text.bytes + i, &length))) {
            push_span(arena, &spans, start, i, false);
            push_span(arena, &spans, i, i + length, true);
            start = i + length;
        }
    }
    push_span(arena, &spans, start, text.length, false);
    return spans;
}

/* Runs of word characters, and runs of others; white space is the match, which is removed. */
static Spans spans_of_words(Arena *arena, String text) {
    Spans spans = {0};
    size_t start = 0;
    int before = -1;
    for (size_t i = 0, length; i < text.length; i += length) {
        uint32_t code = decode(text.bytes + i, &length);
        int class = IN(WORD, code) ? 0 : is_white_space(code) ? 1 : 2;
        if (class != before) {
            push_span(arena, &spans, start, i, before == 1);
            start = i;
        }
        before = class;
    }
    push_span(arena, &spans, start, text.length, before == 1);
    return spans;
}

static Spans spans_of_pattern(Arena *arena, const Splitter *splitter, String text) {
    Spans spans = {0};
    size_t place = 0, start, end;
    while (find_pattern(arena, splitter->regex, splitter->pattern, text, place, &start, &end)) {
        push_span(arena, &spans, place, start, splitter->is_inverted);
        push_span(arena, &spans, start, end, !splitter->is_inverted);
        place = end;
    }
    push_span(arena, &spans, place, text.length, splitter->is_inverted);
    return spans;
}

static void push_piece(Arena *arena, Pieces *pieces, const Piece *piece, size_t start, size_t end) {
    if (start < end) {
        PUSH(arena, *pieces, ((Piece){{piece->text.bytes + start, end - start}, piece->is_first && start == 0}));
    }
}

/* Make pieces of spans, in place: a span takes others in, or goes. */
static void split_at(Arena *arena, Pieces *pieces, const Piece *piece, Spans spans, Behavior behavior) {
    size_t first = 0, end = 0;
    bool before = false;
    if (behavior == MERGED_WITH_NEXT) {
        first = end = spans.count;
        for (size_t i = spans.count; i-- > 0;) {
            Span span = spans.items[i];
            if (span.is_match && !before && first < end) {
                spans.items[first].start = span.start;
            } else {
                spans.items[--first] = span;
            }
            before = span.is_match;
        }
    }
    for (size_t i = 0; i < spans.count && behavior != MERGED_WITH_NEXT; i++) {
        Span span = spans.items[i];
        bool joins = end > 0 && ((behavior == CONTIGUOUS && span.is_match == before) ||
                                 (behavior == MERGED_WITH_PREVIOUS && span.is_match && !before));
        if (joins) {
            spans.items[end - 1].end = span.end;
        } else if (behavior != REMOVED || !span.is_match) {
            spans.items[end++] = span;
        }
        before = span.is_match;
    }
    for (size_t i = first; i < end; i++) {
        push_piece(arena, pieces, piece, spans.items[i].start, spans.items[i].end);
    }
}

static void split_metaspace(Arena *arena, Pieces *pieces, const Splitter *splitter, const Piece *piece) {
    String mark = splitter->pattern, text = piece->text;
    Buffer out = {0};
    bool is_marked = text.length >= mark.length && memcmp(text.bytes, mark.bytes, mark.length) == 0;
    is_marked = is_marked || (text.length > 0 && text.bytes[0] == ' ');
    if (!is_marked && (splitter->scheme == PREPEND_ALWAYS || (splitter->scheme == PREPEND_FIRST && piece->is_first))) {
        append_string(arena, &out, mark);
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.bytes[i] == ' ') {
            append_string(arena, &out, mark);
        } else {
            append(arena, &out, text.bytes + i, 1);
        }
    }
    Piece replaced = {written(&out), piece->is_first};
    if (splitter->splits) {
        split_at(arena, pieces, &replaced, spans_of_pattern(arena, splitter, replaced.text), MERGED_WITH_NEXT);
    } else {
        push_piece(arena, pieces, &replaced, 0, replaced.text.length);
    }
}

/* Write bytes as the characters that stand for them in a byte-level vocabulary. */
static String byte_level(Arena *arena, String text) {
    Buffer out = {0};
    for (size_t i = 0; i < text.length; i++) {
        unsigned byte = (unsigned char)text.bytes[i];
        bool is_itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        /* The others follow each other from 256 on: 0 to 32, 127 to 160, 173. */
        append_code(arena, &out, is_itself ? byte : byte <= 32 ? 256 + byte : byte <= 160 ? 256 + byte - 94 : 256 + 67);
    }
    return written(&out);
}

static void split_byte_level(Arena *arena, Pieces *pieces, const Splitter *splitter, const Piece *piece) {
    Piece spaced = *piece;
    if (splitter->adds_space && piece->text.bytes[0] != ' ') {
        Buffer out = {0};
        append(arena, &out, " ", 1);
        append_string(arena, &out, piece->text);
        spaced.text = written(&out);
    }
    size_t first = pieces->count;
    if (splitter->regex != NULL) {
        split_at(arena, pieces, &spaced, spans_of_pattern(arena, splitter, spaced.text), ISOLATED);
    } else {
        push_piece(arena, pieces, &spaced, 0, spaced.text.length);
    }
    for (size_t i = first; i < pieces->count; i++) {
        pieces->items[i].text = byte_level(arena, pieces->items[i].text);
    }
}

static Pieces split(Arena *arena, const Splitter *splitter, const Pieces *before) {
    Pieces pieces = {0};
    for (size_t i = 0; i < before->count; i++) {
        const Piece *piece = &before->items[i];
        switch (splitter->kind) {
        case SPLIT_RANGES:
            split_at(arena, &pieces, piece, spans_of_ranges(arena, splitter, piece->text), splitter->behavior);
            break;
        case SPLIT_WORDS: split_at(arena, &pieces, piece, spans_of_words(arena, piece->text), REMOVED); break;
        case SPLIT_PATTERN:
            split_at(arena, &pieces, piece, spans_of_pattern(arena, splitter, piece->text), splitter->behavior);
            break;
        case METASPACE: split_metaspace(arena, &pieces, splitter, piece); break;
        case BYTE_LEVEL: split_byte_level(arena, &pieces, splitter, piece); break;
        }
    }
    return pieces;
}

/* =================================== 11. Word models: WordPiece, Unigram, BPE ===================================== */

typedef struct {
    int32_t *items;
    size_t count, capacity;
} Ids;

typedef enum { WORD_PIECE, WORD_LEVEL, UNIGRAM, BPE } WordModelKind;

/* Two tokens that become one; the lowest rank goes first. */
typedef struct {
    int32_t first, second, merged;
    uint32_t rank;
} Merge;

typedef struct {
    WordModelKind kind;
    Lexicon lexicon;
    int32_t unknown; /* -1 for none */
    /* WordPiece */
    Prefix continued; /* the words that begin with the prefix of those within a word */
    int64_t max_characters;
    /* Unigram */
    double *scores;
    double unknown_score;
    /* BPE */
    Merge *merges;
    size_t merge_count;
    String prefix, suffix;
    bool fuses_unknown, ignores_merges;
    /* Unigram and BPE */
    bool falls_back;
    int32_t byte_ids[256];
} WordModel;

static int32_t unknown_id(Arena *arena, const WordModel *model) {
    if (model->unknown < 0) {
        fail(arena->trap, MONOGRAPH_BUNDLE_ERROR, "the tokenizer has no unknown token, and the text needs one");
    }
    return model->unknown;
}

static void word_piece(Arena *arena, const WordModel *model, String word, Ids *ids) {
    size_t before = ids->count, place = 0;
    if ((int64_t)count_characters(word) > model->max_characters) {
        PUSH(arena, *ids, unknown_id(arena, model));
        return;
    }
    while (place < word.length) {
        Prefix prefix = place == 0 ? whole(&model->lexicon) : model->continued;
        String rest = {word.bytes + place, word.length - place};
        uint32_t affix = prefix.depth;
        const Word *found = longest(&model->lexicon, prefix, rest);
        if (found == NULL) {
            ids->count = before;
            PUSH(arena, *ids, unknown_id(arena, model));
            return;
        }
        PUSH(arena, *ids, found->id);
        place += found->length - affix;
    }
}

/* The best way to split what ends at a byte: its score, the last piece's start, and its id, -1 for the unknown. */
typedef struct {
    double score;
    size_t start;
    int32_t id;
} Ending;

/* A part of a text, and its id, -1 for unknown ones. */
typedef struct {
    size_t start, end;
    int32_t id;
} UnigramPiece;

static void offer(Ending *ending, double score, size_t start, int32_t id) {
    if (ending->start == SIZE_MAX || score > ending->score) {
        *ending = (Ending){score, start, id};
    }
}

/* Return whether an unknown text becomes its bytes. */
static bool falls_back(const WordModel *model, String text) {
    for (size_t i = 0; i < text.length; i++) {
        if (model->byte_ids[(unsigned char)text.bytes[i]] < 0) {
            return false;
        }
    }
    return model->falls_back;
}

static void push_bytes(Arena *arena, const WordModel *model, String text, Ids *ids) {
    for (size_t i = 0; i < text.length; i++) {
        PUSH(arena, *ids, model->byte_ids[(unsigned char)text.bytes[i]]);
    }
}

static void unigram(Arena *arena, const WordModel *model, String text, Ids *ids) {
    Ending *endings = NEW(arena, Ending, text.length + 1);
    for (size_t i = 0; i <= text.length; i++) {
        endings[i] = (Ending){0, SIZE_MAX, -1};
    }
    for (size_t start = 0, length; start < text.length; start += length) {
        double score = endings[start].score;
        decode(text.bytes + start, &length);
        bool has_character = false;
        Prefix prefix = whole(&model->lexicon);
        for (size_t end = start; end < text.length && narrow(&model->lexicon, &prefix, text.bytes[end]); end++) {
            const Word *word = exact(&model->lexicon, &prefix);
            if (word != NULL) {
                offer(&endings[end + 1], score + model->scores[word->id], start, word->id);
                has_character = has_character || end + 1 - start == length;
            }
        }
        if (!has_character) {
            offer(&endings[start + length], score + model->unknown_score, start, -1);
        }
    }
    /* Pieces from the end; neighbouring unknown ones are one. A piece that is the unknown token itself counts as one. */
    UnigramPiece *path = NEW(arena, UnigramPiece, text.length);
    size_t count = 0;
    bool was_unknown = false;
    for (size_t end = text.length; end > 0; end = endings[end].start) {
        int32_t id = endings[end].id;
        bool is_unknown = id < 0 || id == model->unknown;
        if (is_unknown && was_unknown) {
            path[count - 1].start = endings[end].start;
        } else {
            path[count++] = (UnigramPiece){endings[end].start, end, is_unknown ? -1 : id};
        }
        was_unknown = is_unknown;
    }
    while (count-- > 0) {
        String piece = {text.bytes + path[count].start, path[count].end - path[count].start};
        int32_t id = path[count].id >= 0 ? path[count].id : id_of(&model->lexicon, piece);
        if (id >= 0) {
            PUSH(arena, *ids, id);
        } else if (falls_back(model, piece)) {
            push_bytes(arena, model, piece, ids);
        } else {
            PUSH(arena, *ids, unknown_id(arena, model));
        }
    }
}

typedef struct {
    int32_t id;
    ptrdiff_t before, after; /* -1 for none; `id` -1 for one that was merged into another */
} Symbol;

typedef struct {
    uint32_t rank;
    int32_t merged;
    ptrdiff_t place;
} Candidate;

typedef struct {
    Candidate *items;
    size_t count, capacity;
} Heap;

static bool goes_first(const Candidate *a, const Candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void push_candidate(Arena *arena, Heap *heap, Candidate candidate) {
    PUSH(arena, *heap, candidate);
    size_t place = heap->count - 1;
    while (place > 0 && goes_first(&candidate, &heap->items[(place - 1) / 2])) {
        heap->items[place] = heap->items[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    heap->items[place] = candidate;
}

static Candidate pop_candidate(Heap *heap) {
    Candidate first = heap->items[0], last = heap->items[--heap->count];
    size_t place = 0;
    for (size_t child; (child = 2 * place + 1) < heap->count; place = child) {
        child += child + 1 < heap->count && goes_first(&heap->items[child + 1], &heap->items[child]);
        if (!goes_first(&heap->items[child], &last)) {
            break;
        }
        heap->items[place] = heap->items[child];
    }
    if (heap->count > 0) {
        heap->items[place] = last;
    }
    return first;
}

static int compare_merges(const void *first, const void *second) {
    const Merge *a = first, *b = second;
    if (a->first != b->first) {
        return a->first < b->first ? -1 : 1;
    }
    if (a->second != b->second) {
        return a->second < b->second ? -1 : 1;
    }
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static const Merge *find_merge(const WordModel *model, int32_t first, int32_t second) {
    const Merge *merges = model->merges;
    size_t place;
    FIND_FIRST(place, 0, model->merge_count,
               merges[place].first < first || (merges[place].first == first && merges[place].second < second));
    bool found = place < model->merge_count && merges[place].first == first && merges[place].second == second;
    return found ? &merges[place] : NULL;
}

static void offer_merge(Arena *arena, const WordModel *model, const Symbol *symbols, Heap *heap, ptrdiff_t place) {
    if (place < 0 || symbols[place].after < 0) {
        return;
    }
    const Merge *merge = find_merge(model, symbols[place].id, symbols[symbols[place].after].id);
    if (merge != NULL) {
        push_candidate(arena, heap, (Candidate){merge->rank, merge->merged, place});
    }
}

/* Return the ids of a word's characters, before any merge. */
static Ids character_ids(Arena *arena, const WordModel *model, String word) {
    Ids ids = {0};
    bool has_unknown = false;
    for (size_t i = 0, length; i < word.length; i += length) {
        decode(word.bytes + i, &length);
        Buffer affixed = {0};
        append_string(arena, &affixed, i > 0 ? model->prefix : (String){"", 0});
        append(arena, &affixed, word.bytes + i, length);
        append_string(arena, &affixed, i + length == word.length ? model->suffix : (String){"", 0});
        int32_t id = id_of(&model->lexicon, written(&affixed));
        if (id < 0 && !falls_back(model, written(&affixed))) {
            if (model->unknown >= 0 && has_unknown && !model->fuses_unknown) {
                PUSH(arena, ids, model->unknown);
            }
            has_unknown = model->unknown >= 0;
            continue;
        }
        if (has_unknown) {
            PUSH(arena, ids, model->unknown);
            has_unknown = false;
        }
        if (id >= 0) {
            PUSH(arena, ids, id);
        } else {
            push_bytes(arena, model, written(&affixed), &ids);
        }
    }
    if (has_unknown) {
        PUSH(arena, ids, model->unknown);
    }
    return ids;
}

static void byte_pairs(Arena *arena, const WordModel *model, String word, Ids *ids) {
    int32_t whole_id = model->ignores_merges ? id_of(&model->lexicon, word) : -1;
    if (whole_id >= 0) {
        PUSH(arena, *ids, whole_id);
        return;
    }
    Ids characters = character_ids(arena, model, word);
    ptrdiff_t count = (ptrdiff_t)characters.count;
    Symbol *symbols = NEW(arena, Symbol, characters.count);
    Heap heap = {0};
    for (ptrdiff_t i = 0; i < count; i++) {
        symbols[i] = (Symbol){characters.items[i], i - 1, i + 1 < count ? i + 1 : -1};
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        offer_merge(arena, model, symbols, &heap, i);
    }
    while (heap.count > 0) {
        Candidate best = pop_candidate(&heap);
        Symbol *symbol = &symbols[best.place];
        if (symbol->id < 0 || symbol->after < 0) {
            continue;
        }
        Symbol *next = &symbols[symbol->after];
        const Merge *merge = find_merge(model, symbol->id, next->id);
        /* What stood there has been merged otherwise since. */
        if (merge == NULL || merge->merged != best.merged) {
            continue;
        }
        symbol->id = best.merged;
        symbol->after = next->after;
        next->id = -1;
        if (symbol->after >= 0) {
            symbols[symbol->after].before = best.place;
        }
        offer_merge(arena, model, symbols, &heap, symbol->before);
        offer_merge(arena, model, symbols, &heap, best.place);
    }
    for (ptrdiff_t i = 0; i >= 0 && i < count; i = symbols[i].after) {
        PUSH(arena, *ids, symbols[i].id);
    }
}

static void tokenize_word(Arena *arena, const WordModel *model, String word, Ids *ids) {
    int32_t id;
    switch (model->kind) {
    case WORD_PIECE: word_piece(arena, model, word, ids); break;
    case UNIGRAM: unigram(arena, model, word, ids); break;
    case BPE: byte_pairs(arena, model, word, ids); break;
    case WORD_LEVEL:
        id = id_of(&model->lexicon, word);
        PUSH(arena, *ids, id >= 0 ? id : unknown_id(arena, model));
        break;
    }
}

/* ================================================ 12. tokenizer.json ============================================== */

enum {
    MAX_TOKENIZER_VALUES = 3000000, MAX_STEPS = 100, MAX_WORD_CHARACTERS = 500, MAX_ADDED_CHARACTERS = 2000000,
    MAX_TEMPLATE_TOKENS = 1000, MAX_GROWTH = 300, MAX_INSERTED = 256, MAX_AFFIX = 64, MAX_PIECE_BYTES = 500,
};
#define MAX_TOKENIZER_BYTES ((size_t)128 << 20)

typedef struct {
    int32_t id;
    bool is_single_word, strips_left, strips_right;
} AddedToken;

/* What stands around a text: special tokens, and the text itself. */
typedef struct {
    int32_t id; /* -1 for the text */
    int64_t type_id;
} TemplateItem;

typedef struct {
    Normalizer *items;
    size_t count, capacity;
} Normalizers;

typedef struct {
    Splitter *items;
    size_t count, capacity;
} Splitters;

typedef struct {
    TemplateItem *items;
    size_t count, capacity;
} Template;

typedef struct {
    Arena *arena;
    Normalizers normalizers;
    Splitters splitters;
    WordModel model;
    Template template;
    size_t special_count;
    AddedToken *added;
    Lexicon raw_tokens, normalized_tokens; /* added tokens, found before and after normalization; ids are places in `added` */
    bool truncates, truncates_left;
    int64_t max_length;
} Tokenizer;

_Noreturn __attribute__((format(printf, 2, 3))) static void refuse(Tokenizer *tokenizer, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fail(tokenizer->arena->trap, MONOGRAPH_BUNDLE_ERROR, "the tokenizer %s", text);
}

static const char *type_of(Tokenizer *tokenizer, const Json *step) {
    return quote(tokenizer->arena, string_member(step, "type"));
}

/* Take a pattern, which is a text or a regular expression. */
static void read_pattern(Tokenizer *tokenizer, const Json *pattern, const Node **regex, String *text) {
    const Json *string = member(pattern, "String"), *expression = member(pattern, "Regex");
    if (expression != NULL) {
        *regex = read_regex(tokenizer->arena, copy_string(tokenizer->arena, string_in(expression)));
    } else if (string != NULL) {
        *text = copy_string(tokenizer->arena, string_in(string));
    } else {
        refuse(tokenizer, "has a pattern that is neither a text nor a regular expression");
    }
}

static String decode_base64(Arena *arena, String text) {
    if (text.length % 4 != 0) {
        return (String){0};
    }
    char *bytes = NEW(arena, char, text.length / 4 * 3 + 1);
    size_t count = 0, padding = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.bytes[i];
        int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                    : c >= 'a' && c <= 'z' ? c - 'a' + 26
                    : c >= '0' && c <= '9' ? c - '0' + 52
                    : c == '+'             ? 62
                    : c == '/'             ? 63
                                           : -1;
        if (c == '=' && i + 2 >= text.length) {
            value = 0;
            padding++;
        }
        if (value < 0 || (padding != 0 && c != '=')) {
            return (String){0};
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 == 3) {
            bytes[count++] = (char)(bits >> 16);
            bytes[count++] = (char)(bits >> 8);
            bytes[count++] = (char)bits;
            bits = 0;
        }
    }
    return (String){bytes, count - padding};
}

static void read_charsmap(Tokenizer *tokenizer, Normalizer *normalizer, const Json *step) {
    String data = decode_base64(tokenizer->arena, string_member(step, "precompiled_charsmap"));
    size_t size = data.length < 4 ? 0 : read_little_endian(data.bytes);
    if (data.length < 4 || size % 4 != 0 || size > data.length - 4) {
        refuse(tokenizer, "has a precompiled_charsmap that is damaged");
    }
    normalizer->trie_size = size / 4;
    uint32_t *trie = NEW(tokenizer->arena, uint32_t, normalizer->trie_size + 1);
    for (size_t i = 0; i < normalizer->trie_size; i++) {
        trie[i] = read_little_endian(data.bytes + 4 + 4 * i);
    }
    normalizer->trie = trie;
    normalizer->texts = (String){data.bytes + 4 + size, data.length - 4 - size};
    if (!is_utf8(normalizer->texts)) {
        refuse(tokenizer, "has a precompiled_charsmap that is damaged");
    }
    for (size_t i = 0, run = 0; i < normalizer->texts.length; i++) {
        run = normalizer->texts.bytes[i] == 0 ? 0 : run + 1;
        if (run > MAX_GROWTH) {
            refuse(tokenizer, "has normalizers that make more than %d characters of one", MAX_GROWTH);
        }
    }
}

/* Return how many characters a normalizer may make of one; the longest of a charsmap is checked where it is read. */
static size_t growth_of(const Normalizer *normalizer) {
    if (normalizer->kind == NORMALIZE_REPLACE && normalizer->regex == NULL && normalizer->pattern.length != 0) {
        size_t growth = (normalizer->content.length + normalizer->pattern.length - 1) / normalizer->pattern.length;
        return growth < 1 ? 1 : growth;
    }
    bool inserts = normalizer->kind == NORMALIZE_REPLACE || normalizer->kind == NORMALIZE_PREPEND;
    return inserts ? normalizer->content.length + 1 : 1;
}

static void read_normalizer(Tokenizer *tokenizer, const Json *step, int depth) {
    static const struct {
        const char *type;
        NormalizerKind kind;
    } KINDS[] = {
        {"BertNormalizer", NORMALIZE_BERT}, {"NFC", NORMALIZE_NFC}, {"NFD", NORMALIZE_NFD}, {"NFKC", NORMALIZE_NFKC},
        {"NFKD", NORMALIZE_NFKD}, {"Lowercase", NORMALIZE_LOWERCASE}, {"Strip", NORMALIZE_STRIP},
        {"StripAccents", NORMALIZE_ACCENTS}, {"Replace", NORMALIZE_REPLACE}, {"Prepend", NORMALIZE_PREPEND},
        {"Precompiled", NORMALIZE_PRECOMPILED}, {"Nmt", NORMALIZE_NMT},
    };
    String type = string_member(step, "type");
    if (depth > MAX_STEPS || tokenizer->normalizers.count >= MAX_STEPS) {
        refuse(tokenizer, "has more than %d normalizers", MAX_STEPS);
    }
    if (is(type, "Sequence")) {
        for (const Json *one = first_of(member(step, "normalizers")); one != NULL; one = one->next) {
            read_normalizer(tokenizer, one, depth + 1);
        }
        return;
    }
    Normalizer normalizer = {0};
    bool is_known = false;
    for (size_t i = 0; i < COUNT_OF(KINDS) && !is_known; i++) {
        is_known = is(type, KINDS[i].type);
        normalizer.kind = KINDS[i].kind;
    }
    if (!is_known) {
        refuse(tokenizer, "has the normalizer %s, which this reader does not support", type_of(tokenizer, step));
    }
    normalizer.cleans = flag_member(step, "clean_text", true);
    normalizer.pads_chinese = flag_member(step, "handle_chinese_chars", true);
    normalizer.lowercases = flag_member(step, "lowercase", true);
    normalizer.strips_accents = flag_member(step, "strip_accents", normalizer.lowercases);
    normalizer.strips_left = flag_member(step, "strip_left", true);
    normalizer.strips_right = flag_member(step, "strip_right", true);
    String content = string_member(step, normalizer.kind == NORMALIZE_PREPEND ? "prepend" : "content");
    normalizer.content = copy_string(tokenizer->arena, content);
    if (normalizer.content.length > MAX_INSERTED) {
        refuse(tokenizer, "has a normalizer that inserts %zu bytes", normalizer.content.length);
    }
    if (normalizer.kind == NORMALIZE_REPLACE) {
        read_pattern(tokenizer, member(step, "pattern"), &normalizer.regex, &normalizer.pattern);
    } else if (normalizer.kind == NORMALIZE_PRECOMPILED) {
        if (string_member(step, "precompiled_charsmap").length == 0) {
            return;
        }
        read_charsmap(tokenizer, &normalizer, step);
    }
    PUSH(tokenizer->arena, tokenizer->normalizers, normalizer);
}

static void push_ranges_splitter(Tokenizer *tokenizer, const Range *ranges, size_t count, Behavior behavior) {
    PUSH(tokenizer->arena, tokenizer->splitters,
         ((Splitter){.kind = SPLIT_RANGES, .ranges = ranges, .range_count = count, .behavior = behavior}));
}

#define PUSH_RANGES(tokenizer, table, behavior) push_ranges_splitter((tokenizer), (table), COUNT_OF(table), (behavior))

static Behavior read_behavior(Tokenizer *tokenizer, const Json *step) {
    static const struct {
        const char *name;
        Behavior behavior;
    } BEHAVIORS[] = {{"Removed", REMOVED}, {"Isolated", ISOLATED}, {"Contiguous", CONTIGUOUS},
                     {"MergedWithPrevious", MERGED_WITH_PREVIOUS}, {"MergedWithNext", MERGED_WITH_NEXT}};
    for (size_t i = 0; i < COUNT_OF(BEHAVIORS); i++) {
        if (is(string_member(step, "behavior"), BEHAVIORS[i].name)) {
            return BEHAVIORS[i].behavior;
        }
    }
    refuse(tokenizer, "splits with a behavior that is not known");
}

static void read_metaspace(Tokenizer *tokenizer, const Json *step) {
    Splitter splitter = {.kind = METASPACE, .splits = flag_member(step, "split", true), .scheme = PREPEND_ALWAYS};
    String scheme = string_member(step, "prepend_scheme"), mark = string_member(step, "replacement");
    if (is(scheme, "never") || (scheme.length == 0 && !flag_member(step, "add_prefix_space", true))) {
        splitter.scheme = PREPEND_NEVER;
    } else if (is(scheme, "first")) {
        splitter.scheme = PREPEND_FIRST;
    } else if (scheme.length != 0 && !is(scheme, "always")) {
        refuse(tokenizer, "has a prepend_scheme that is not known");
    }
    splitter.pattern = copy_string(tokenizer->arena, mark);
    if (count_characters(mark) != 1) {
        refuse(tokenizer, "has a replacement that is not one character");
    }
    PUSH(tokenizer->arena, tokenizer->splitters, splitter);
}

static const char BYTE_LEVEL_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static void read_splitter(Tokenizer *tokenizer, const Json *step, int depth) {
    String type = string_member(step, "type");
    Splitter splitter = {0};
    if (depth > MAX_STEPS || tokenizer->splitters.count >= MAX_STEPS) {
        refuse(tokenizer, "has more than %d pre-tokenizers", MAX_STEPS);
    }
    if (is(type, "Sequence")) {
        for (const Json *one = first_of(member(step, "pretokenizers")); one != NULL; one = one->next) {
            read_splitter(tokenizer, one, depth + 1);
        }
    } else if (is(type, "BertPreTokenizer")) {
        PUSH_RANGES(tokenizer, WHITE_SPACE, REMOVED);
        PUSH_RANGES(tokenizer, PUNCTUATION, ISOLATED);
    } else if (is(type, "WhitespaceSplit")) {
        PUSH_RANGES(tokenizer, WHITE_SPACE, REMOVED);
    } else if (is(type, "Punctuation")) {
        PUSH_RANGES(tokenizer, PUNCTUATION, member(step, "behavior") == NULL ? ISOLATED : read_behavior(tokenizer, step));
    } else if (is(type, "Digits")) {
        PUSH_RANGES(tokenizer, NUMERIC, flag_member(step, "individual_digits", false) ? ISOLATED : CONTIGUOUS);
    } else if (is(type, "Whitespace")) {
        splitter.kind = SPLIT_WORDS;
        PUSH(tokenizer->arena, tokenizer->splitters, splitter);
    } else if (is(type, "Metaspace")) {
        read_metaspace(tokenizer, step);
    } else if (is(type, "ByteLevel")) {
        splitter.kind = BYTE_LEVEL;
        splitter.adds_space = flag_member(step, "add_prefix_space", true);
        if (flag_member(step, "use_regex", true)) {
            splitter.regex = read_regex(tokenizer->arena, string_of(BYTE_LEVEL_PATTERN));
        }
        PUSH(tokenizer->arena, tokenizer->splitters, splitter);
    } else if (is(type, "Split")) {
        splitter.kind = SPLIT_PATTERN;
        splitter.behavior = read_behavior(tokenizer, step);
        splitter.is_inverted = flag_member(step, "invert", false);
        read_pattern(tokenizer, member(step, "pattern"), &splitter.regex, &splitter.pattern);
        PUSH(tokenizer->arena, tokenizer->splitters, splitter);
    } else {
        refuse(tokenizer, "has the pre-tokenizer %s, which this reader does not support", type_of(tokenizer, step));
    }
}

static int32_t checked_id(Tokenizer *tokenizer, const Json *id) {
    if (id == NULL || id->type != JSON_INTEGER || id->integer < 0 || id->integer >= INT32_MAX) {
        refuse(tokenizer, "has an id that is none");
    }
    return (int32_t)id->integer;
}

static void push_special(Tokenizer *tokenizer, int32_t id, int64_t type_id) {
    PUSH(tokenizer->arena, tokenizer->template, ((TemplateItem){id, type_id}));
    if (id >= 0 && ++tokenizer->special_count > MAX_TEMPLATE_TOKENS) {
        refuse(tokenizer, "adds more than %d tokens to a text", MAX_TEMPLATE_TOKENS);
    }
}

/* Read a template's form for single texts. */
static void read_template(Tokenizer *tokenizer, const Json *step) {
    const Json *specials = member(step, "special_tokens");
    size_t texts = 0;
    for (const Json *item = first_of(member(step, "single")); item != NULL; item = item->next) {
        const Json *special = member(item, "SpecialToken"), *text = member(item, "Sequence");
        if (text != NULL) {
            if (!is(string_member(text, "id"), "A") || ++texts > 1) {
                refuse(tokenizer, "has a template with a text more than once, or one that is not there");
            }
            push_special(tokenizer, -1, integer_member(text, "type_id", 0));
            continue;
        }
        const Json *token = special == NULL ? NULL : member_named(specials, string_member(special, "id"));
        if (token == NULL) {
            refuse(tokenizer, "has a template with a token that it does not define");
        }
        for (const Json *id = first_of(member(token, "ids")); id != NULL; id = id->next) {
            push_special(tokenizer, checked_id(tokenizer, id), integer_member(special, "type_id", 0));
        }
    }
}

static const Json *second_of(const Json *list) {
    const Json *first = first_of(list);
    return first == NULL ? NULL : first->next;
}

static void read_post_processor(Tokenizer *tokenizer, const Json *step, int depth) {
    String type = string_member(step, "type");
    if (is(type, "Sequence") && depth < MAX_STEPS) {
        for (const Json *one = first_of(member(step, "processors")); one != NULL; one = one->next) {
            read_post_processor(tokenizer, one, depth + 1);
        }
        return;
    }
    if (is(type, "ByteLevel")) {
        return;
    }
    if (tokenizer->template.count != 0) {
        refuse(tokenizer, "has more than one post-processor that adds tokens");
    }
    if (is(type, "TemplateProcessing")) {
        read_template(tokenizer, step);
    } else if (is(type, "BertProcessing") || is(type, "RobertaProcessing")) {
        push_special(tokenizer, checked_id(tokenizer, second_of(member(step, "cls"))), 0);
        push_special(tokenizer, -1, 0);
        push_special(tokenizer, checked_id(tokenizer, second_of(member(step, "sep"))), 0);
    } else {
        refuse(tokenizer, "has the post-processor %s, which this reader does not support", type_of(tokenizer, step));
    }
}

/* Make a lexicon of an object of words and ids; the words are copied. */
static void read_words(Tokenizer *tokenizer, const Json *words) {
    Arena *arena = tokenizer->arena;
    Lexicon *lexicon = &tokenizer->model.lexicon;
    if (words == NULL || words->type != JSON_OBJECT) {
        refuse(tokenizer, "has no vocabulary");
    }
    size_t bytes = 0;
    for (const Json *one = words->first; one != NULL; one = one->next) {
        bytes += one->key_length;
    }
    char *pool = NEW(arena, char, bytes + 1);
    lexicon->words = NEW(arena, Word, words->length + 1);
    for (const Json *one = words->first; one != NULL; one = one->next) {
        memcpy(pool, one->key, one->key_length);
        lexicon->words[lexicon->count] = (Word){pool, one->key_length, (int32_t)lexicon->count};
        pool += one->key_length;
        lexicon->count++;
        checked_id(tokenizer, one);
    }
    /* Sorted with their places first, so that the last of equal words stays; then with their ids. */
    size_t count = lexicon->count, place = 0;
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    if (ids == NULL) {
        fail(arena->trap, MONOGRAPH_MEMORY_ERROR, "out of memory");
    }
    for (const Json *one = words->first; one != NULL; one = one->next) {
        ids[place++] = (int32_t)one->integer;
    }
    sort_lexicon(lexicon);
    for (size_t i = 0; i < lexicon->count; i++) {
        lexicon->words[i].id = ids[lexicon->words[i].id];
    }
    free(ids);
}

static void read_byte_ids(WordModel *model) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        model->byte_ids[byte] = id_of(&model->lexicon, string_of(name));
    }
}

static void read_word_piece(Tokenizer *tokenizer, const Json *json) {
    WordModel *model = &tokenizer->model;
    read_words(tokenizer, member(json, "vocab"));
    const Json *unknown = typed_member(json, "unk_token", JSON_STRING);
    model->unknown = id_of(&model->lexicon, unknown == NULL ? string_of("[UNK]") : string_in(unknown));
    if (model->kind == WORD_LEVEL) {
        return;
    }
    const Json *prefix = typed_member(json, "continuing_subword_prefix", JSON_STRING);
    String affix = prefix == NULL ? string_of("##") : string_in(prefix);
    if (affix.length > MAX_AFFIX) {
        refuse(tokenizer, "has a continuing_subword_prefix of more than %d bytes", MAX_AFFIX);
    }
    model->continued = whole(&model->lexicon);
    if (!narrow_all(&model->lexicon, &model->continued, affix)) {
        model->continued = (Prefix){0, 0, (uint32_t)affix.length};
    }
    model->max_characters = integer_member(json, "max_input_chars_per_word", 100);
    if (model->max_characters < 0 || model->max_characters > MAX_WORD_CHARACTERS) {
        refuse(tokenizer, "has a max_input_chars_per_word that is not 0 to %d", MAX_WORD_CHARACTERS);
    }
}

static void read_unigram(Tokenizer *tokenizer, const Json *json) {
    Arena *arena = tokenizer->arena;
    WordModel *model = &tokenizer->model;
    const Json *pieces = typed_member(json, "vocab", JSON_LIST);
    if (pieces == NULL || pieces->length == 0) {
        refuse(tokenizer, "has no vocabulary");
    }
    size_t bytes = 0;
    for (const Json *piece = pieces->first; piece != NULL; piece = piece->next) {
        const Json *text = first_of(piece), *score = second_of(piece);
        if (text == NULL || text->type != JSON_STRING || score == NULL || !is_number(score)) {
            refuse(tokenizer, "has a piece that is not a text with a score");
        }
        if (text->length > MAX_PIECE_BYTES) {
            refuse(tokenizer, "has pieces of more than %d bytes", MAX_PIECE_BYTES);
        }
        bytes += text->length;
    }
    char *pool = NEW(arena, char, bytes + 1);
    model->scores = NEW(arena, double, pieces->length);
    model->lexicon.words = NEW(arena, Word, pieces->length);
    double lowest = INFINITY;
    for (const Json *piece = pieces->first; piece != NULL; piece = piece->next) {
        String text = string_in(piece->first);
        size_t place = model->lexicon.count++;
        memcpy(pool, text.bytes, text.length);
        model->lexicon.words[place] = (Word){pool, (uint32_t)text.length, (int32_t)place};
        pool += text.length;
        model->scores[place] = number_in(piece->first->next);
        lowest = fmin(lowest, model->scores[place]);
    }
    model->unknown_score = lowest - 10;
    int64_t unknown = integer_member(json, "unk_id", -1);
    if (unknown >= (int64_t)pieces->length || unknown < -1) {
        refuse(tokenizer, "has an unk_id beyond its vocabulary");
    }
    model->unknown = (int32_t)unknown;
    sort_lexicon(&model->lexicon);
}

/* Return the two halves of a merge, which is "a b" or ["a", "b"]. */
static bool read_halves(const Json *merge, String *first, String *second) {
    if (merge->type == JSON_LIST && merge->length == 2) {
        *first = string_in(merge->first);
        *second = string_in(merge->first->next);
        return merge->first->type == JSON_STRING && merge->first->next->type == JSON_STRING;
    }
    String text = string_in(merge);
    const char *space = text.length == 0 ? NULL : memchr(text.bytes, ' ', text.length);
    if (space == NULL) {
        return false;
    }
    *first = (String){text.bytes, (size_t)(space - text.bytes)};
    *second = (String){space + 1, text.length - first->length - 1};
    return true;
}

static void read_bpe(Tokenizer *tokenizer, const Json *json) {
    Arena *arena = tokenizer->arena;
    WordModel *model = &tokenizer->model;
    const Json *merges = typed_member(json, "merges", JSON_LIST);
    read_words(tokenizer, member(json, "vocab"));
    const Json *dropout = member(json, "dropout");
    if (dropout != NULL && is_number(dropout) && number_in(dropout) != 0) {
        refuse(tokenizer, "has a dropout, which splits texts by chance");
    }
    const Json *unknown = typed_member(json, "unk_token", JSON_STRING);
    model->unknown = unknown == NULL ? -1 : id_of(&model->lexicon, string_in(unknown));
    model->prefix = copy_string(arena, string_member(json, "continuing_subword_prefix"));
    model->suffix = copy_string(arena, string_member(json, "end_of_word_suffix"));
    if (model->prefix.length > MAX_AFFIX || model->suffix.length > MAX_AFFIX) {
        refuse(tokenizer, "has an affix of more than %d bytes", MAX_AFFIX);
    }
    model->fuses_unknown = flag_member(json, "fuse_unk", false);
    model->ignores_merges = flag_member(json, "ignore_merges", false);
    if (merges == NULL) {
        refuse(tokenizer, "has no merges");
    }
    model->merges = NEW(arena, Merge, merges->length + 1);
    for (const Json *one = merges->first; one != NULL; one = one->next) {
        String first, second;
        Merge merge = {.first = -1, .second = -1, .merged = -1, .rank = (uint32_t)model->merge_count};
        if (read_halves(one, &first, &second) && second.length >= model->prefix.length) {
            char text[2048];
            size_t rest = second.length - model->prefix.length;
            if (first.length + rest <= sizeof text) {
                memcpy(text, first.bytes, first.length);
                memcpy(text + first.length, second.bytes + model->prefix.length, rest);
                merge.first = id_of(&model->lexicon, first);
                merge.second = id_of(&model->lexicon, second);
                merge.merged = id_of(&model->lexicon, (String){text, first.length + rest});
            }
        }
        if (merge.first < 0 || merge.second < 0 || merge.merged < 0) {
            refuse(tokenizer, "has a merge of tokens that it does not have");
        }
        model->merges[model->merge_count++] = merge;
    }
    qsort(model->merges, model->merge_count, sizeof *model->merges, compare_merges);
    /* Of equal pairs the last stays, as in a dictionary that is filled in order. */
    size_t retained = 0;
    for (size_t i = 1; i < model->merge_count; i++) {
        bool is_same = model->merges[retained].first == model->merges[i].first &&
                       model->merges[retained].second == model->merges[i].second;
        retained += !is_same;
        model->merges[retained] = model->merges[i];
    }
    model->merge_count = model->merge_count == 0 ? 0 : retained + 1;
}

static void read_model(Tokenizer *tokenizer, const Json *json) {
    WordModel *model = &tokenizer->model;
    String type = string_member(json, "type");
    if (type.length == 0 && json != NULL) {
        /* Older files leave it out. */
        const Json *vocab = member(json, "vocab");
        type = string_of(member(json, "merges") != NULL                       ? "BPE"
                         : vocab != NULL && vocab->type == JSON_LIST          ? "Unigram"
                         : member(json, "continuing_subword_prefix") != NULL ? "WordPiece"
                                                                              : "WordLevel");
    }
    if (is(type, "WordPiece") || is(type, "WordLevel")) {
        model->kind = is(type, "WordPiece") ? WORD_PIECE : WORD_LEVEL;
        read_word_piece(tokenizer, json);
    } else if (is(type, "Unigram")) {
        model->kind = UNIGRAM;
        read_unigram(tokenizer, json);
    } else if (is(type, "BPE")) {
        model->kind = BPE;
        read_bpe(tokenizer, json);
    } else {
        refuse(tokenizer, "is of the type %s, which this reader does not support", quote(tokenizer->arena, type));
    }
    model->falls_back = flag_member(json, "byte_fallback", false);
    read_byte_ids(model);
}

static String normalize_all(Arena *arena, const Tokenizer *tokenizer, String text) {
    for (size_t i = 0; i < tokenizer->normalizers.count; i++) {
        text = normalize(arena, &tokenizer->normalizers.items[i], text);
    }
    return text;
}

static void read_added_tokens(Tokenizer *tokenizer, const Json *list) {
    Arena *arena = tokenizer->arena;
    size_t capacity = list == NULL ? 0 : list->length, count = 0, characters = 0;
    tokenizer->added = NEW(arena, AddedToken, capacity + 1);
    tokenizer->raw_tokens.words = NEW(arena, Word, capacity + 1);
    tokenizer->normalized_tokens.words = NEW(arena, Word, capacity + 1);
    for (const Json *one = first_of(list); one != NULL; one = one->next) {
        String content = string_member(one, "content");
        characters += content.length;
        if (characters > 4u * MAX_ADDED_CHARACTERS) {
            refuse(tokenizer, "has added tokens of more than %d characters", MAX_ADDED_CHARACTERS);
        }
        if (content.length == 0) {
            continue;
        }
        int32_t known = id_of(&tokenizer->model.lexicon, content), stated = checked_id(tokenizer, member(one, "id"));
        tokenizer->added[count] = (AddedToken){
            .id = known >= 0 ? known : stated,
            .is_single_word = flag_member(one, "single_word", false),
            .strips_left = flag_member(one, "lstrip", false),
            .strips_right = flag_member(one, "rstrip", false),
        };
        bool is_normalized = flag_member(one, "normalized", !flag_member(one, "special", false));
        Lexicon *lexicon = is_normalized ? &tokenizer->normalized_tokens : &tokenizer->raw_tokens;
        String text = copy_string(arena, is_normalized ? normalize_all(arena, tokenizer, content) : content);
        if (text.length != 0) {
            lexicon->words[lexicon->count++] = (Word){text.bytes, (uint32_t)text.length, (int32_t)count};
        }
        count++;
    }
    sort_lexicon(&tokenizer->raw_tokens);
    sort_lexicon(&tokenizer->normalized_tokens);
}

static void read_truncation(Tokenizer *tokenizer, const Json *truncation) {
    if (truncation == NULL) {
        return;
    }
    tokenizer->truncates = true;
    tokenizer->max_length = integer_member(truncation, "max_length", 0);
    tokenizer->truncates_left = is(string_member(truncation, "direction"), "Left");
    if (integer_member(truncation, "stride", 0) != 0) {
        refuse(tokenizer, "has a truncation.stride, which must be 0");
    }
    if (tokenizer->max_length < 1 || (size_t)tokenizer->max_length < tokenizer->special_count) {
        refuse(tokenizer, "adds %zu special tokens, and truncates to %" PRId64, tokenizer->special_count,
               tokenizer->max_length);
    }
    if (is(string_member(truncation, "strategy"), "OnlySecond")) {
        refuse(tokenizer, "truncates second texts only, and there is none");
    }
}

/* Make a tokenizer of tokenizer.json's content, which may be freed afterwards. */
static void read_tokenizer(Tokenizer *tokenizer, Arena *arena, String content, Arena *scratch) {
    const char *problem = NULL;
    tokenizer->arena = arena;
    if (content.length > MAX_TOKENIZER_BYTES) {
        refuse(tokenizer, "has a file of more than %zu bytes", MAX_TOKENIZER_BYTES);
    }
    const Json *json = parse_json(scratch, content, MAX_TOKENIZER_VALUES, false, &problem);
    if (json == NULL || json->type != JSON_OBJECT) {
        refuse(tokenizer, "cannot be read (%s)", problem == NULL ? "it must be an object" : problem);
    }
    if (member(json, "normalizer") != NULL) {
        read_normalizer(tokenizer, member(json, "normalizer"), 0);
    }
    size_t growth = 1;
    for (size_t i = 0; i < tokenizer->normalizers.count && growth <= MAX_GROWTH; i++) {
        growth *= growth_of(&tokenizer->normalizers.items[i]);
    }
    if (growth > MAX_GROWTH) {
        refuse(tokenizer, "has normalizers that make more than %d characters of one", MAX_GROWTH);
    }
    if (member(json, "pre_tokenizer") != NULL) {
        read_splitter(tokenizer, member(json, "pre_tokenizer"), 0);
    }
    if (member(json, "post_processor") != NULL) {
        read_post_processor(tokenizer, member(json, "post_processor"), 0);
    }
    if (tokenizer->template.count == 0) {
        push_special(tokenizer, -1, 0);
    }
    read_model(tokenizer, member(json, "model"));
    read_added_tokens(tokenizer, member(json, "added_tokens"));
    read_truncation(tokenizer, member(json, "truncation"));
}

/* A part of a text: one added token, or what is left to tokenize (`id` -1). */
typedef struct {
    String text;
    int32_t id;
    bool is_first;
} Part;

typedef struct {
    Part *items;
    size_t count, capacity;
} Parts;

static bool is_word_before(String text, size_t place) {
    size_t start = character_before(text, place), length;
    return place > 0 && IN(WORD, decode(text.bytes + start, &length));
}

static bool is_word_at(String text, size_t place) {
    size_t length;
    return place < text.length && IN(WORD, decode(text.bytes + place, &length));
}

/* Cut a part at the added tokens in it: the leftmost first, of those the longest. */
static void find_added(Arena *arena, const Tokenizer *tokenizer, const Lexicon *lexicon, const Part *part, Parts *parts) {
    String text = part->text;
    size_t done = 0, place = 0;
    while (lexicon->count != 0 && place < text.length) {
        const Word *word = longest(lexicon, whole(lexicon), (String){text.bytes + place, text.length - place});
        if (word == NULL) {
            place++;
            continue;
        }
        const AddedToken *token = &tokenizer->added[word->id];
        size_t start = place, end = place + word->length;
        place = end;
        if (token->is_single_word && (is_word_before(text, start) || is_word_at(text, end))) {
            continue;
        }
        start = token->strips_left ? skip_space_left(text, start, done) : start;
        end = token->strips_right ? skip_space_right(text, end) : end;
        if (done < start) {
            PUSH(arena, *parts, ((Part){{text.bytes + done, start - done}, -1, part->is_first && done == 0}));
        }
        PUSH(arena, *parts, ((Part){{text.bytes + start, end - start}, token->id, false}));
        done = end;
        place = place > done ? place : done;
    }
    if (done < text.length) {
        PUSH(arena, *parts, ((Part){{text.bytes + done, text.length - done}, -1, part->is_first && done == 0}));
    }
}

static void tokenize_part(Arena *arena, const Tokenizer *tokenizer, const Part *part, Ids *ids) {
    if (part->id >= 0) {
        PUSH(arena, *ids, part->id);
        return;
    }
    Pieces pieces = {0};
    PUSH(arena, pieces, ((Piece){part->text, part->is_first}));
    for (size_t i = 0; i < tokenizer->splitters.count; i++) {
        pieces = split(arena, &tokenizer->splitters.items[i], &pieces);
    }
    for (size_t i = 0; i < pieces.count; i++) {
        if (pieces.items[i].text.length != 0) {
            tokenize_word(arena, &tokenizer->model, pieces.items[i].text, ids);
        }
    }
}

/* The tokens of one text, special ones included. */
typedef struct {
    int32_t *ids;
    uint8_t *types;
    size_t count;
} Tokens;

/* Tokenize a text of UTF-8. The tokens go to `arena`; `scratch` may be freed afterwards. */
static Tokens tokenize(Arena *arena, Arena *scratch, const Tokenizer *tokenizer, String text) {
    Parts raw = {0}, parts = {0};
    Ids ids = {0};
    find_added(scratch, tokenizer, &tokenizer->raw_tokens, &(Part){text, -1, true}, &raw);
    for (size_t i = 0; i < raw.count; i++) {
        if (raw.items[i].id >= 0) {
            PUSH(scratch, parts, raw.items[i]);
            continue;
        }
        raw.items[i].text = normalize_all(scratch, tokenizer, raw.items[i].text);
        find_added(scratch, tokenizer, &tokenizer->normalized_tokens, &raw.items[i], &parts);
    }
    for (size_t i = 0; i < parts.count; i++) {
        tokenize_part(scratch, tokenizer, &parts.items[i], &ids);
    }
    size_t room = tokenizer->truncates ? (size_t)tokenizer->max_length - tokenizer->special_count : SIZE_MAX;
    size_t retained = ids.count < room ? ids.count : room, from = tokenizer->truncates_left ? ids.count - retained : 0;
    Tokens tokens = {0};
    tokens.ids = NEW(arena, int32_t, retained + tokenizer->special_count + 1);
    tokens.types = NEW(arena, uint8_t, retained + tokenizer->special_count + 1);
    for (size_t i = 0; i < tokenizer->template.count; i++) {
        TemplateItem item = tokenizer->template.items[i];
        size_t count = item.id < 0 ? retained : 1;
        for (size_t k = 0; k < count; k++) {
            tokens.ids[tokens.count] = item.id < 0 ? ids.items[from + k] : item.id;
            tokens.types[tokens.count++] = (uint8_t)item.type_id;
        }
    }
    return tokens;
}

/* ================================================= 13. ONNX Runtime =============================================== */

/* The library is loaded by name, so that its telemetry is off before its first line runs, and so that a program which
 * embeds nothing needs no library. One environment serves the process. */

enum { ORT_API = 21 };

static pthread_mutex_t runtime_lock = PTHREAD_MUTEX_INITIALIZER;
static const OrtApi *runtime_api;
static OrtEnv *runtime_environment;
static char runtime_version[32];

static void load_runtime(Trap *trap, const char *library) {
    library = library != NULL ? library : getenv("MONOGRAPH_ONNXRUNTIME");
    library = library != NULL ? library : "libonnxruntime.so.1";
    char problem[512] = "";
    pthread_mutex_lock(&runtime_lock);
    if (runtime_api == NULL) {
        /* Its Linux builds from PyPI send usage data unless the variable is set before they are loaded. */
        setenv("ORT_DISABLE_TELEMETRY", "1", 1);
        void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        const OrtApiBase *(*get_base)(void) = NULL;
        if (handle != NULL) {
            /* ISO C has no conversion of what dlsym returns. */
            *(void **)&get_base = dlsym(handle, "OrtGetApiBase");
        }
        const OrtApi *api = get_base == NULL ? NULL : get_base()->GetApi(ORT_API);
        OrtStatus *status = NULL;
        if (handle == NULL) {
            snprintf(problem, sizeof problem, "%s", dlerror());
        } else if (api == NULL) {
            snprintf(problem, sizeof problem, "%s is older than ONNX Runtime 1.%d", library, ORT_API);
        } else if ((status = api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "monograph", &runtime_environment)) != NULL) {
            snprintf(problem, sizeof problem, "%s", api->GetErrorMessage(status));
            api->ReleaseStatus(status);
        } else {
            status = api->DisableTelemetryEvents(runtime_environment);
            if (status != NULL) {
                api->ReleaseStatus(status);
            }
            snprintf(runtime_version, sizeof runtime_version, "%s", get_base()->GetVersionString());
            runtime_api = api;
        }
    }
    pthread_mutex_unlock(&runtime_lock);
    if (*problem != 0) {
        fail(trap, MONOGRAPH_DEVICE_ERROR,
             "ONNX Runtime cannot be loaded (%s): install it, or set MONOGRAPH_ONNXRUNTIME to its library", problem);
    }
}

/* Fail with what ONNX Runtime says, in one line. */
static void check_status(Trap *trap, OrtStatus *status, const char *what) {
    if (status == NULL) {
        return;
    }
    char message[512];
    snprintf(message, sizeof message, "%s", runtime_api->GetErrorMessage(status));
    message[strcspn(message, "\r\n")] = 0;
    runtime_api->ReleaseStatus(status);
    fail(trap, MONOGRAPH_DEVICE_ERROR, "ONNX Runtime %s %s (%s)", runtime_version, what, message);
}

struct monograph_model {
    Arena arena;
    Manifest manifest;
    Tokenizer tokenizer;
    int folder;
    void *weights; /* mapped, read-only */
    size_t weights_size;
    OrtSessionOptions *session_options;
    OrtSession *session;
    OrtMemoryInfo *memory_info;
    OrtValue **tables; /* over the mapped weights; the session has no copies of them */
    size_t table_count;
    const char *input_names[COUNT_OF(GRAPH_INPUTS)];
    size_t input_kinds[COUNT_OF(GRAPH_INPUTS)]; /* places in GRAPH_INPUTS */
    size_t input_count;
    const char *output_name;
    int threads;
};

/* What one call of a public function has of ONNX Runtime, released at its end. */
typedef struct {
    Trap trap;
    Arena arena, scratch;
    OrtValue *values[COUNT_OF(GRAPH_INPUTS) + 1];
    OrtTypeInfo *type_info;
    OrtTensorTypeAndShapeInfo *shape_info;
    char *name;
    OrtAllocator *allocator;
} Call;

static void release_values(Call *call) {
    for (size_t i = 0; i < COUNT_OF(call->values); i++) {
        if (call->values[i] != NULL) {
            runtime_api->ReleaseValue(call->values[i]);
            call->values[i] = NULL;
        }
    }
    if (call->type_info != NULL) {
        runtime_api->ReleaseTypeInfo(call->type_info);
        call->type_info = NULL;
    }
    if (call->shape_info != NULL) {
        runtime_api->ReleaseTensorTypeAndShapeInfo(call->shape_info);
        call->shape_info = NULL;
    }
    if (call->name != NULL) {
        OrtStatus *status = runtime_api->AllocatorFree(call->allocator, call->name);
        if (status != NULL) {
            runtime_api->ReleaseStatus(status);
        }
        call->name = NULL;
    }
}

static void end_call(Call *call) {
    release_values(call);
    free_arena(&call->scratch);
    free_arena(&call->arena);
}

static void map_weights(Trap *trap, monograph_model *model, const char *path) {
    Arena *arena = &model->arena;
    const Json *entry = member_named(model->manifest.files, model->manifest.weights_file);
    const char *name = copy_string(arena, model->manifest.weights_file).bytes, *problem = NULL;
    struct stat status;
    int handle = open_regular(model->folder, name, &status, &problem);
    if (handle < 0) {
        fail(trap, MONOGRAPH_BUNDLE_ERROR, "%s: %s %s", path, name, problem);
    }
    bool is_same = status.st_size == integer_member(entry, "bytes", -1);
    void *weights = MAP_FAILED;
    if (is_same && status.st_size > 0) {
        weights = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, handle, 0);
    }
    close(handle);
    if (!is_same || (weights == MAP_FAILED && status.st_size > 0)) {
        fail(trap, MONOGRAPH_BUNDLE_ERROR, "%s: %s was changed, or cannot be mapped", path, name);
    }
    model->weights = status.st_size > 0 ? weights : NULL;
    model->weights_size = (size_t)status.st_size;
}

static void configure_session(Trap *trap, monograph_model *model) {
    static const char *const ENTRIES[][2] = {
        /* Threads spin during a run, for latency, and sleep after it. */
        {"session.force_spinning_stop", "1"},
        /* Otherwise float32 values that are multiplied with int8 weights are rounded to blocks of int8 too. */
        {"session.qdq_matmulnbits_accuracy_level", "1"},
    };
    const OrtApi *api = runtime_api;
    check_status(trap, api->CreateSessionOptions(&model->session_options), "has no session options");
    OrtSessionOptions *options = model->session_options;
    check_status(trap, api->SetIntraOpNumThreads(options, model->threads), "cannot be configured");
    check_status(trap, api->SetInterOpNumThreads(options, 1), "cannot be configured");
    check_status(trap, api->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_FATAL), "cannot be configured");
    /* Neither an arena nor a plan for each shape: a device has little memory. */
    check_status(trap, api->DisableCpuMemArena(options), "cannot be configured");
    check_status(trap, api->DisableMemPattern(options), "cannot be configured");
    for (size_t i = 0; i < COUNT_OF(ENTRIES); i++) {
        check_status(trap, api->AddSessionConfigEntry(options, ENTRIES[i][0], ENTRIES[i][1]), "cannot be configured");
    }
    /* The fused operators are slower than those they replace. Constant folding would transpose the weights into copies;
     * but int8 weights of float32 products are to be widened once. Graphs that quantize dynamically come from an ONNX
     * file: with the fusions of that file they round as it does. Python has the same settings. */
    bool widens = is(model->manifest.precision, "int8-weights");
    const char *disabled = widens ? "SkipLayerNormFusion;BiasGeluFusion"
                                  : "SkipLayerNormFusion;BiasGeluFusion;ConstantFolding";
    if (model->manifest.max_batch_size != 1) {
        check_status(trap, api->AddSessionConfigEntry(options, "optimization.disable_specified_optimizers", disabled),
                     "cannot be configured");
    }
    if (widens) {
        check_status(trap, api->AddSessionConfigEntry(options, "session.disable_quant_qdq", "1"), "cannot be configured");
    }
}

/* Require that an input or output of the session is what the manifest says. */
static void check_tensor_spec(Call *call, monograph_model *model, const char *path, const Json *specs, size_t place,
                              bool is_input, const char **name) {
    const OrtApi *api = runtime_api;
    Trap *trap = &call->trap;
    check_status(trap,
                 is_input ? api->SessionGetInputName(model->session, place, call->allocator, &call->name)
                          : api->SessionGetOutputName(model->session, place, call->allocator, &call->name),
                 "has no names");
    const Json *spec = member_named(specs, string_of(call->name));
    if (spec == NULL) {
        fail(trap, MONOGRAPH_BUNDLE_ERROR, "%s: the graph has %s, which the manifest does not have", path,
             quote(&call->scratch, string_of(call->name)));
    }
    *name = copy_string(&model->arena, string_of(call->name)).bytes;
    check_status(trap,
                 is_input ? api->SessionGetInputTypeInfo(model->session, place, &call->type_info)
                          : api->SessionGetOutputTypeInfo(model->session, place, &call->type_info),
                 "has no types");
    const OrtTensorTypeAndShapeInfo *info = NULL;
    enum ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t rank = 0;
    int64_t sizes[8] = {0};
    check_status(trap, api->CastTypeInfoToTensorInfo(call->type_info, &info), "has no types");
    if (info != NULL) {
        check_status(trap, api->GetTensorElementType(info, &type), "has no types");
        check_status(trap, api->GetDimensionsCount(info, &rank), "has no shapes");
        if (rank <= COUNT_OF(sizes)) {
            check_status(trap, api->GetDimensions(info, sizes, rank), "has no shapes");
        }
    }
    bool is_right = type == (is_input ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) &&
                    is(string_member(spec, "dtype"), is_input ? "int64" : "float32") && rank == 2 &&
                    member(spec, "shape")->length == rank;
    if (!is_right || (!is_input && sizes[1] != model->manifest.dimension)) {
        fail(trap, MONOGRAPH_BUNDLE_ERROR, "%s: %s of the graph is not of the type and shape that the manifest says", path,
             quote(&call->scratch, string_of(call->name)));
    }
    release_values(call);
}

static void check_signature(Call *call, monograph_model *model, const char *path) {
    const Json *inputs = member(model->manifest.graph, "inputs"), *outputs = member(model->manifest.graph, "outputs");
    size_t input_count = 0, output_count = 0;
    check_status(&call->trap, runtime_api->SessionGetInputCount(model->session, &input_count), "has no inputs");
    check_status(&call->trap, runtime_api->SessionGetOutputCount(model->session, &output_count), "has no outputs");
    if (input_count != inputs->length || output_count != 1 || input_count > COUNT_OF(GRAPH_INPUTS)) {
        fail(&call->trap, MONOGRAPH_BUNDLE_ERROR, "%s: the graph has other inputs and outputs than the manifest", path);
    }
    for (size_t i = 0; i < input_count; i++) {
        check_tensor_spec(call, model, path, inputs, i, true, &model->input_names[i]);
        while (strcmp(model->input_names[i], GRAPH_INPUTS[model->input_kinds[i]]) != 0) {
            model->input_kinds[i]++;
        }
    }
    model->input_count = input_count;
    check_tensor_spec(call, model, path, outputs, 0, false, &model->output_name);
}

/* Share the mapped tables with ONNX Runtime, which would copy them otherwise. It may rearrange other weights, so those it
 * takes from the file in memory: it copies them while it loads the graph, and packs most of them. */
static void share_tables(Call *call, monograph_model *model, const Tables *tables) {
    enum { LAST_TYPE_OF_BYTES = 20, ALIGNMENT = 16 }; /* Of the types after it more than one element is in a byte. */
    const OrtApi *api = runtime_api;
    model->tables = NEW_ZEROS(&model->arena, OrtValue *, tables->count);
    for (size_t i = 0; i < tables->count; i++) {
        const Table *one = &tables->items[i];
        if (one->length == 0 || one->data_type > LAST_TYPE_OF_BYTES || one->offset % ALIGNMENT != 0) {
            continue;
        }
        const char *name = copy_string(&model->arena, one->name).bytes, *what = "does not take the weights";
        OrtValue **value = &model->tables[model->table_count++];
        OrtStatus *status = api->CreateTensorWithDataAsOrtValue(model->memory_info, (char *)model->weights + one->offset,
                                                                (size_t)one->length, one->dims, one->rank,
                                                                (ONNXTensorElementDataType)one->data_type, value);
        check_status(&call->trap, status, what);
        /* The first makes the graph's tensor refer to the values, the second makes the session use them in place. */
        check_status(&call->trap, api->AddExternalInitializers(model->session_options, &name, (const OrtValue **)value, 1), what);
        check_status(&call->trap, api->AddInitializer(model->session_options, name, *value), what);
    }
}

/* Give the graph's bytes, which were checked, and its mapped weights to ONNX Runtime. */
static void open_session(Call *call, monograph_model *model, const char *path, const Contents *contents) {
    const OrtApi *api = runtime_api;
    Trap *trap = &call->trap;
    configure_session(trap, model);
    check_status(trap, api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &model->memory_info),
                 "has no memory");
    const char *name = copy_string(&model->arena, model->manifest.weights_file).bytes;
    char *weights = model->weights;
    if (weights != NULL) {
        share_tables(call, model, &contents->tables);
        check_status(trap, api->AddExternalInitializersFromFilesInMemory(model->session_options, &name, &weights,
                                                                        &model->weights_size, 1),
                     "does not take the weights");
    }
    OrtStatus *status = api->CreateSessionFromArray(runtime_environment, contents->graph.bytes,
                                                    contents->graph.length, model->session_options, &model->session);
    check_status(trap, status, "cannot load the graph");
    check_status(trap, api->GetAllocatorWithDefaultOptions(&call->allocator), "has no allocator");
    check_signature(call, model, path);
}

/* ================================================== 14. Inference ================================================= */

enum { TOKENS_PER_BATCH = 256, RAGGED_ROWS = 16, RAGGED_TOKENS = 512, MAX_ROWS = 1024 };

/* Tokenized texts; the first `prompt_length` tokens of each are a prompt's, if the model leaves prompts out of pooling. */
typedef struct {
    Tokens *items;
    size_t count, prompt_length;
} Batchable;

/* Run one batch and return the output, float32 [rows, dimension], valid until the next release_values. */
static const float *run_batch(Call *call, const monograph_model *model, const Batchable *texts, const size_t *rows,
                              size_t count) {
    const OrtApi *api = runtime_api;
    size_t width = 1, dimension = (size_t)model->manifest.dimension;
    for (size_t i = 0; i < count; i++) {
        width = texts->items[rows[i]].count > width ? texts->items[rows[i]].count : width;
    }
    int64_t shape[2] = {(int64_t)count, (int64_t)width};
    for (size_t input = 0; input < model->input_count; input++) {
        size_t kind = model->input_kinds[input];
        int64_t *values = NEW(&call->scratch, int64_t, count * width);
        for (size_t i = 0; i < count; i++) {
            const Tokens *tokens = &texts->items[rows[i]];
            for (size_t k = 0; k < width; k++) {
                bool is_token = k < tokens->count;
                values[i * width + k] = kind == 0   ? (is_token ? tokens->ids[k] : model->manifest.pad_id)
                                        : kind == 1 ? is_token
                                        : kind == 2 ? (is_token ? tokens->types[k] : 0)
                                                    : is_token && k >= texts->prompt_length;
            }
        }
        check_status(&call->trap,
                     api->CreateTensorWithDataAsOrtValue(model->memory_info, values, count * width * sizeof *values, shape,
                                                         2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &call->values[input]),
                     "takes no input");
    }
    OrtValue **output = &call->values[COUNT_OF(GRAPH_INPUTS)];
    check_status(&call->trap,
                 api->Run(model->session, NULL, model->input_names, (const OrtValue *const *)call->values,
                          model->input_count, &model->output_name, 1, output),
                 "failed on a batch");
    int64_t sizes[2] = {0, 0};
    size_t rank = 0;
    enum ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check_status(&call->trap, api->GetTensorTypeAndShape(*output, &call->shape_info), "has no output");
    check_status(&call->trap, api->GetTensorElementType(call->shape_info, &type), "has no output");
    check_status(&call->trap, api->GetDimensionsCount(call->shape_info, &rank), "has no output");
    if (rank == 2) {
        check_status(&call->trap, api->GetDimensions(call->shape_info, sizes, 2), "has no output");
    }
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || sizes[0] != shape[0] || sizes[1] != model->manifest.dimension) {
        fail(&call->trap, MONOGRAPH_DEVICE_ERROR, "the graph gave an output of another type or shape than the manifest says");
    }
    void *vectors = NULL;
    check_status(&call->trap, api->GetTensorMutableData(*output, &vectors), "has no output");
    for (size_t i = 0; i < count * dimension; i++) {
        if (!isfinite(((const float *)vectors)[i])) {
            fail(&call->trap, MONOGRAPH_DEVICE_ERROR, "the graph gave a value that is not finite");
        }
    }
    return vectors;
}

/* Run a batch and put its first `width` columns where its texts stand in `vectors`. */
static void run_rows(Call *call, const monograph_model *model, const Batchable *texts, const size_t *rows, size_t count,
                     float *vectors, size_t width) {
    const float *output = run_batch(call, model, texts, rows, count);
    for (size_t i = 0; i < count; i++) {
        memcpy(vectors + rows[i] * width, output + i * (size_t)model->manifest.dimension, width * sizeof *vectors);
    }
    release_values(call);
    free_arena(&call->scratch);
}

/* Return the texts in the order of their length, the longest first. */
static size_t *order_by_length(Arena *arena, const Batchable *texts) {
    size_t longest_text = 0, *order = NEW(arena, size_t, texts->count + 1);
    for (size_t i = 0; i < texts->count; i++) {
        longest_text = texts->items[i].count > longest_text ? texts->items[i].count : longest_text;
    }
    size_t *starts = NEW_ZEROS(arena, size_t, longest_text + 2);
    for (size_t i = 0; i < texts->count; i++) {
        starts[longest_text - texts->items[i].count + 1]++;
    }
    for (size_t length = 0; length <= longest_text; length++) {
        starts[length + 1] += starts[length];
    }
    for (size_t i = 0; i < texts->count; i++) {
        order[starts[longest_text - texts->items[i].count]++] = i;
    }
    return order;
}

/* Run all texts, in batches of similar length that cost about as much as each other. */
static void run_by_length(Call *call, const monograph_model *model, const Batchable *texts, float *vectors, size_t width) {
    size_t *order = order_by_length(&call->arena, texts), budget = (size_t)TOKENS_PER_BATCH * (size_t)model->threads;
    for (size_t start = 0, rows; start < texts->count; start += rows) {
        size_t length = texts->items[order[start]].count;
        rows = budget / (length == 0 ? 1 : length);
        rows = rows < 1 ? 1 : rows > MAX_ROWS ? MAX_ROWS : rows;
        rows = (int64_t)rows > model->manifest.max_batch_size ? (size_t)model->manifest.max_batch_size : rows;
        rows = rows > texts->count - start ? texts->count - start : rows;
        run_rows(call, model, texts, order + start, rows, vectors, width);
    }
}

static String checked_text(Trap *trap, const char *text, size_t place) {
    if (text == NULL) {
        fail(trap, MONOGRAPH_INPUT_ERROR, "text %zu must not be NULL", place);
    }
    String string = string_of(text);
    if (!is_utf8(string)) {
        fail(trap, MONOGRAPH_INPUT_ERROR, "text %zu is not UTF-8", place);
    }
    return string;
}

static Tokens tokenize_checked(Call *call, const monograph_model *model, String prompt, String text, size_t place) {
    if (prompt.length != 0) {
        Buffer joined_text = {0};
        append_string(&call->scratch, &joined_text, prompt);
        append_string(&call->scratch, &joined_text, text);
        text = written(&joined_text);
    }
    Tokens tokens = tokenize(&call->arena, &call->scratch, &model->tokenizer, text);
    free_arena(&call->scratch);
    for (size_t i = 0; i < tokens.count; i++) {
        if (tokens.ids[i] >= model->manifest.vocabulary_size) {
            fail(&call->trap, MONOGRAPH_INPUT_ERROR, "text %zu has the token %" PRId32 ", which has no embedding", place,
                 tokens.ids[i]);
        }
    }
    if (tokens.count == 0 && model->manifest.needs_tokens) {
        fail(&call->trap, MONOGRAPH_INPUT_ERROR, "text %zu has no tokens, and the model has no vector for it", place);
    }
    return tokens;
}

/* Return how many tokens of each text are its prompt's: those of the prompt alone, but for a special one at its end. */
static size_t prompt_length(Call *call, const monograph_model *model, String prompt) {
    if (!model->manifest.has_pooling_mask || prompt.length == 0) {
        return 0;
    }
    Tokens tokens = tokenize(&call->arena, &call->scratch, &model->tokenizer, prompt);
    for (const Json *one = first_of(member(model->manifest.tokenizer, "special_ids")); one != NULL; one = one->next) {
        if (tokens.count != 0 && tokens.ids[tokens.count - 1] == one->integer) {
            return tokens.count - 1;
        }
    }
    return tokens.count;
}

static String choose_prompt(Call *call, const monograph_model *model, const monograph_encode_options *options) {
    if (options->prompt != NULL) {
        String prompt = string_of(options->prompt);
        if (!is_utf8(prompt)) {
            fail(&call->trap, MONOGRAPH_INPUT_ERROR, "prompt is not UTF-8");
        }
        return prompt;
    }
    const Json *name = member(model->manifest.json, "default_prompt_name");
    if (options->prompt_name == NULL) {
        return name == NULL ? (String){"", 0} : string_in(member_named(model->manifest.prompts, string_in(name)));
    }
    const Json *prompt = member_named(model->manifest.prompts, string_of(options->prompt_name));
    if (prompt == NULL) {
        fail(&call->trap, MONOGRAPH_INPUT_ERROR, "prompt_name %s is not a prompt of this model",
             quote(&call->scratch, string_of(options->prompt_name)));
    }
    return string_in(prompt);
}

static void normalize_rows(float *vectors, size_t count, size_t width) {
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t k = 0; k < width; k++) {
            sum += (double)vectors[i * width + k] * (double)vectors[i * width + k];
        }
        double norm = fmax(sqrt(sum), 1e-12);
        for (size_t k = 0; k < width; k++) {
            vectors[i * width + k] = (float)(vectors[i * width + k] / norm);
        }
    }
}

/* A set of probes. */
typedef struct {
    Batchable texts;
    const int64_t *counts;
    const float *reference;
} Probes;

static void refuse_probes(Call *call, const char *reason) {
    fail(&call->trap, MONOGRAPH_BUNDLE_ERROR, "%s: %s", PROBES_FILE, reason);
}

static float *read_vectors(Call *call, const monograph_model *model, const Json *vectors, size_t count) {
    const Json *shape = typed_member(vectors, "shape", JSON_LIST);
    size_t width = (size_t)model->manifest.dimension;
    String data = string_member(vectors, "base64"), dtype = string_member(vectors, "dtype");
    if (shape == NULL || shape->length != 2 || shape->first->type != JSON_INTEGER ||
        shape->first->next->type != JSON_INTEGER || shape->first->integer != (int64_t)count ||
        shape->first->next->integer != (int64_t)width || !is(dtype, "float32 little-endian")) {
        refuse_probes(call, "vectors are not of the shape and type that the texts and the graph have");
    }
    String bytes = decode_base64(&call->arena, data);
    if (member(vectors, "columns") != NULL || bytes.bytes == NULL || bytes.length != count * width * 4) {
        refuse_probes(call, "vectors cannot be decoded");
    }
    float *values = NEW(&call->arena, float, count * width);
    for (size_t i = 0; i < count * width; i++) {
        uint32_t bits = read_little_endian(bytes.bytes + 4 * i);
        memcpy(&values[i], &bits, sizeof bits);
        if (!isfinite(values[i])) {
            refuse_probes(call, "vectors must be finite");
        }
    }
    return values;
}

/* Tokenize a set of probes; return the reason why they fail at that, "" if they do not. */
static const char *read_probes(Call *call, const monograph_model *model, const Json *json, Probes *probes) {
    const Json *texts = typed_member(json, "texts", JSON_LIST), *counts = typed_member(json, "token_counts", JSON_LIST);
    const Json *prompt = member(json, "prompt");
    if (texts == NULL || counts == NULL || texts->length == 0 || texts->length != counts->length ||
        !all_of(texts, JSON_STRING, JSON_STRING) || !all_of(counts, JSON_INTEGER, JSON_INTEGER) ||
        (prompt != NULL && prompt->type != JSON_STRING)) {
        refuse_probes(call, "texts and token_counts must be lists of one length");
    }
    if (member(json, "route") != NULL) {
        refuse_probes(call, "there are probes of a route, which no graph has");
    }
    size_t count = texts->length, place = 0;
    probes->reference = read_vectors(call, model, typed_member(json, "vectors", JSON_OBJECT), count);
    probes->texts = (Batchable){NEW(&call->arena, Tokens, count), count, prompt_length(call, model, string_in(prompt))};
    int64_t *stated = NEW(&call->arena, int64_t, count);
    probes->counts = stated;
    const char *reason = "";
    const Json *tokens = counts->first;
    for (const Json *text = texts->first; text != NULL; text = text->next, tokens = tokens->next, place++) {
        probes->texts.items[place] = tokenize_checked(call, model, string_in(prompt), string_in(text), place);
        stated[place] = tokens->integer;
        if (*reason == 0 && (int64_t)probes->texts.items[place].count != tokens->integer) {
            reason = format_text(&call->arena, "probe %zu has %zu tokens instead of %" PRId64, place,
                                 probes->texts.items[place].count, tokens->integer);
        }
    }
    return reason;
}

/* Return how far vectors are from the reference; NaN counts as the largest difference. */
static monograph_case compare_vectors(const char *name, const Probes *probes, const float *vectors, size_t width) {
    monograph_case result = {.name = name, .max_abs_difference = -1, .worst_cosine = 1};
    double longest_reference = 0;
    for (size_t i = 0; i < probes->texts.count; i++) {
        double norm = 0;
        for (size_t k = 0; k < width; k++) {
            norm += (double)probes->reference[i * width + k] * (double)probes->reference[i * width + k];
        }
        longest_reference = fmax(longest_reference, sqrt(norm));
    }
    for (size_t i = 0; i < probes->texts.count; i++) {
        const float *a = vectors + i * width, *b = probes->reference + i * width;
        double difference = 0, dot = 0, first = 0, second = 0;
        for (size_t k = 0; k < width; k++) {
            double one = fabs((double)a[k] - (double)b[k]);
            difference = one <= difference ? difference : isfinite(one) ? one : FLT_MAX;
            dot += (double)a[k] * (double)b[k];
            first += (double)a[k] * (double)a[k];
            second += (double)b[k] * (double)b[k];
        }
        double cosine = dot / fmax(sqrt(first) * sqrt(second), 1e-30);
        /* Zeros have no direction to be wrong. */
        cosine = second == 0 && sqrt(first) <= 0.01 * longest_reference ? 1 : isfinite(cosine) ? cosine : -1;
        result.worst_cosine = fmin(result.worst_cosine, cosine);
        if (difference > result.max_abs_difference) {
            result.max_abs_difference = difference;
            result.worst_tokens = (int)probes->counts[i];
        }
    }
    return result;
}

/* Shuffle texts in the same way everywhere. */
static size_t *shuffled(Arena *arena, size_t count) {
    size_t *order = NEW(arena, size_t, count + 1);
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t other = (size_t)(state >> 33) % (i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

/* Run each text beside the next in the order that is no longer, so that each is the longest of a batch once. */
static void run_beside_shorter(Call *call, const monograph_model *model, const Probes *probes, const size_t *order,
                               float *vectors, float *pair) {
    size_t width = (size_t)model->manifest.dimension, count = probes->texts.count;
    for (size_t place = 0; place < count; place++) {
        const Tokens *longer = &probes->texts.items[order[place]];
        size_t step = 1;
        while (step < count && probes->texts.items[order[(place + step) % count]].count > longer->count) {
            step++;
        }
        size_t rows[2] = {order[place], order[(place + step) % count]};
        Tokens items[2] = {*longer, probes->texts.items[rows[1]]};
        Batchable texts = {items, 2, probes->texts.prompt_length};
        const size_t both[2] = {0, 1};
        run_rows(call, model, &texts, both, step < count ? 2 : 1, pair, width);
        memcpy(vectors + rows[0] * width, pair, width * sizeof *vectors);
    }
}

static void run_ragged(Call *call, const monograph_model *model, const Probes *probes, const size_t *order, float *vectors) {
    for (size_t start = 0, rows; start < probes->texts.count; start += rows) {
        size_t longest_text = 1;
        for (rows = 0; rows < RAGGED_ROWS && start + rows < probes->texts.count; rows++) {
            size_t length = probes->texts.items[order[start + rows]].count;
            length = length > longest_text ? length : longest_text;
            if (rows >= 2 && length * (rows + 1) > RAGGED_TOKENS) {
                break;
            }
            longest_text = length;
        }
        run_rows(call, model, &probes->texts, order + start, rows, vectors, (size_t)model->manifest.dimension);
    }
}

static void add_case(monograph_report *report, monograph_case result) {
    for (int i = 0; i < report->case_count; i++) {
        monograph_case *known = &report->cases[i];
        if (strcmp(known->name, result.name) == 0) {
            bool is_worse = result.max_abs_difference > known->max_abs_difference;
            known->worst_cosine = fmin(known->worst_cosine, result.worst_cosine);
            known->worst_tokens = is_worse ? result.worst_tokens : known->worst_tokens;
            known->max_abs_difference = is_worse ? result.max_abs_difference : known->max_abs_difference;
            return;
        }
    }
    report->cases[report->case_count++] = result;
}

static void verify_set(Call *call, const monograph_model *model, const Json *json, monograph_report *report) {
    Probes probes;
    size_t width = (size_t)model->manifest.dimension;
    const char *reason = read_probes(call, model, json, &probes);
    float *vectors = NEW(&call->arena, float, probes.texts.count * width), *pair = NEW(&call->arena, float, 2 * width);
    size_t *order = shuffled(&call->arena, probes.texts.count);
    double largest = 1;
    for (size_t i = 0; i < probes.texts.count * width; i++) {
        largest = fmax(largest, fabs((double)probes.reference[i]));
    }
    report->by_cosine = !is(model->manifest.precision, "fp32") && !is(model->manifest.precision, "int8-weights");
    report->tolerance = is(model->manifest.precision, "int8") ? 0.99 : report->by_cosine ? 0.999 : 1e-5 * largest;
    report->probes += (int)probes.texts.count;
    monograph_case results[MONOGRAPH_CASES];
    int count = 0;
    for (size_t i = 0; i < probes.texts.count; i++) {
        run_rows(call, model, &probes.texts, &i, 1, vectors, width);
    }
    results[count++] = compare_vectors("alone, unpadded", &probes, vectors, width);
    if (model->manifest.max_batch_size >= RAGGED_ROWS) {
        run_beside_shorter(call, model, &probes, order, vectors, pair);
        results[count++] = compare_vectors("beside a shorter text", &probes, vectors, width);
        run_ragged(call, model, &probes, order, vectors);
        results[count++] = compare_vectors("ragged batches", &probes, vectors, width);
    }
    run_by_length(call, model, &probes.texts, vectors, width);
    results[count++] = compare_vectors("batched by length", &probes, vectors, width);
    for (int i = 0; i < count; i++) {
        const monograph_case *one = &results[i];
        bool is_right = report->by_cosine ? one->worst_cosine >= report->tolerance
                                          : one->max_abs_difference <= report->tolerance;
        if (!is_right && *reason == 0) {
            reason = report->by_cosine ? format_text(&call->arena, "cosine %.6f is below %g, %s", one->worst_cosine,
                                                     report->tolerance, one->name)
                                       : format_text(&call->arena, "max abs difference %.2e exceeds %.2e, %s, %d tokens",
                                                     one->max_abs_difference, report->tolerance, one->name,
                                                     one->worst_tokens);
        }
        report->max_abs_difference = fmax(report->max_abs_difference, one->max_abs_difference);
        report->worst_cosine = fmin(report->worst_cosine, one->worst_cosine);
        add_case(report, *one);
    }
    if (*reason != 0 && *report->reason == 0) {
        snprintf(report->reason, sizeof report->reason, "%s", reason);
    }
}

static void verify_all(Call *call, const monograph_model *model, monograph_report *report) {
    enum { MAX_PROBE_VALUES = 4000000 };
    Arena *arena = &call->arena;
    const char *problem = NULL;
    const Json *entry = member_named(model->manifest.files, model->manifest.probes_file);
    const Json *weights = member_named(model->manifest.files, model->manifest.weights_file);
    const char *name = copy_string(arena, model->manifest.probes_file).bytes;
    String text = read_file(arena, model->folder, name, (size_t)512 << 20, &problem);
    char digits[65] = "";
    if (text.bytes != NULL) {
        sha256_of(text.bytes, text.length, digits);
        problem = is(string_member(entry, "sha256"), digits) ? NULL : "was changed: its sha256 is not the manifest's";
    }
    if (problem != NULL) {
        refuse_probes(call, problem);
    }
    sha256_of(model->weights, model->weights_size, digits);
    if (!is(string_member(weights, "sha256"), digits)) {
        fail(&call->trap, MONOGRAPH_BUNDLE_ERROR, "the weights were changed: their sha256 is not the manifest's");
    }
    const Json *json = parse_json(arena, text, MAX_PROBE_VALUES, true, &problem);
    if (json == NULL || json->type != JSON_OBJECT) {
        refuse_probes(call, problem == NULL ? "it must be an object" : problem);
    }
    *report = (monograph_report){.worst_cosine = 1};
    bool has_prompted = member(json, "prompt") != NULL;
    verify_set(call, model, json, report);
    for (const Json *other = first_of(typed_member(json, "others", JSON_LIST)); other != NULL; other = other->next) {
        has_prompted = has_prompted || member(other, "prompt") != NULL;
        verify_set(call, model, other, report);
    }
    if (model->manifest.has_pooling_mask && !has_prompted) {
        refuse_probes(call, "there are no probes with a prompt");
    }
    report->passed = *report->reason == 0;
}

/* ============================================ 15. The public functions ============================================ */

static void start_call(Call *call) {
    *call = (Call){0};
    call->arena.trap = call->scratch.trap = &call->trap;
    last_status = MONOGRAPH_OK;
    last_error[0] = 0;
}

static void load_model(Call *call, monograph_model *model, const char *path, const monograph_options *options) {
    Contents contents = {0};
    model->threads = options->threads > 0 ? options->threads : 1;
    model->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (model->folder < 0) {
        fail(&call->trap, MONOGRAPH_BUNDLE_ERROR, "%s: there is no such folder", path);
    }
    model->manifest = open_files(&model->arena, &call->arena, model->folder, path, options->check_weights, &contents);
    read_tokenizer(&model->tokenizer, &model->arena, contents.tokenizer, &call->scratch);
    free_arena(&call->scratch);
    int64_t max_length = model->tokenizer.truncates ? model->tokenizer.max_length : 0;
    if (max_length != model->manifest.max_length) {
        fail(&call->trap, MONOGRAPH_BUNDLE_ERROR, "%s: the tokenizer truncates to %" PRId64 " tokens, the manifest says %" PRId64,
             path, max_length, model->manifest.max_length);
    }
    load_runtime(&call->trap, options->onnxruntime);
    map_weights(&call->trap, model, path);
    open_session(call, model, path, &contents);
}

/* A call of monograph_open. */
typedef struct {
    Call call;
    const char *folder;
    const monograph_options *options;
    monograph_model *model;
} Opening;

static void open_model(void *argument) {
    Opening *opening = argument;
    if (opening->folder == NULL) {
        fail(&opening->call.trap, MONOGRAPH_INPUT_ERROR, "folder must not be NULL");
    }
    monograph_model *model = opening->model = calloc(1, sizeof *model);
    if (model == NULL) {
        fail(&opening->call.trap, MONOGRAPH_MEMORY_ERROR, "out of memory");
    }
    model->folder = -1;
    model->arena.trap = &opening->call.trap;
    load_model(&opening->call, model, opening->folder, opening->options);
    model->arena.trap = NULL;
}

monograph_model *monograph_open(const char *folder, const monograph_options *options) {
    static const monograph_options DEFAULTS = {0};
    Opening opening = {.folder = folder, .options = options == NULL ? &DEFAULTS : options};
    start_call(&opening.call);
    bool is_open = attempt(&opening.call.trap, open_model, &opening);
    end_call(&opening.call);
    if (!is_open) {
        monograph_close(opening.model);
        return NULL;
    }
    return opening.model;
}

void monograph_close(monograph_model *model) {
    if (model == NULL) {
        return;
    }
    if (model->session != NULL) {
        runtime_api->ReleaseSession(model->session);
    }
    if (model->session_options != NULL) {
        runtime_api->ReleaseSessionOptions(model->session_options);
    }
    for (size_t i = 0; i < model->table_count; i++) {
        runtime_api->ReleaseValue(model->tables[i]);
    }
    if (model->memory_info != NULL) {
        runtime_api->ReleaseMemoryInfo(model->memory_info);
    }
    if (model->weights != NULL) {
        munmap(model->weights, model->weights_size);
    }
    if (model->folder >= 0) {
        close(model->folder);
    }
    free_arena(&model->arena);
    free(model);
}

const char *monograph_last_error(void) { return last_error; }

monograph_status monograph_last_status(void) { return last_status; }

size_t monograph_dimension(const monograph_model *model) { return (size_t)model->manifest.truncate_dim; }

size_t monograph_max_length(const monograph_model *model) { return (size_t)model->manifest.max_length; }

/* A call of monograph_encode. */
typedef struct {
    Call call;
    const monograph_model *model;
    const char *const *texts;
    size_t count;
    const monograph_encode_options *options;
    float *vectors;
} Encoding;

static void encode_texts(void *argument) {
    Encoding *encoding = argument;
    Call *call = &encoding->call;
    const monograph_model *model = encoding->model;
    const monograph_encode_options *options = encoding->options;
    size_t count = encoding->count;
    int64_t width = options->truncate_dim == 0 ? model->manifest.truncate_dim : options->truncate_dim;
    if (width < 1 || width > model->manifest.dimension) {
        fail(&call->trap, MONOGRAPH_INPUT_ERROR, "truncate_dim must be 1 to %" PRId64, model->manifest.dimension);
    }
    if (count != 0 && (encoding->texts == NULL || encoding->vectors == NULL)) {
        fail(&call->trap, MONOGRAPH_INPUT_ERROR, "texts and vectors must not be NULL");
    }
    String prompt = choose_prompt(call, model, options);
    Batchable batchable = {NEW(&call->arena, Tokens, count), count, prompt_length(call, model, prompt)};
    for (size_t i = 0; i < count; i++) {
        String text = checked_text(&call->trap, encoding->texts[i], i);
        batchable.items[i] = tokenize_checked(call, model, prompt, text, i);
    }
    run_by_length(call, model, &batchable, encoding->vectors, (size_t)width);
    if (options->normalize) {
        normalize_rows(encoding->vectors, count, (size_t)width);
    }
}

monograph_status monograph_encode(monograph_model *model, const char *const *texts, size_t count,
                                  const monograph_encode_options *options, float *vectors) {
    static const monograph_encode_options DEFAULTS = {0};
    Encoding encoding = {.model = model, .texts = texts, .count = count, .vectors = vectors,
                         .options = options == NULL ? &DEFAULTS : options};
    start_call(&encoding.call);
    attempt(&encoding.call.trap, encode_texts, &encoding);
    end_call(&encoding.call);
    return last_status;
}

/* A call of monograph_tokenize. */
typedef struct {
    Call call;
    const monograph_model *model;
    const char *text;
    int64_t *ids;
    size_t capacity;
    int64_t count;
} Tokenization;

static void tokenize_text(void *argument) {
    Tokenization *wanted = argument;
    Call *call = &wanted->call;
    String text = checked_text(&call->trap, wanted->text, 0);
    Tokens tokens = tokenize(&call->arena, &call->scratch, &wanted->model->tokenizer, text);
    for (size_t i = 0; i < tokens.count && i < wanted->capacity; i++) {
        wanted->ids[i] = tokens.ids[i];
    }
    wanted->count = (int64_t)tokens.count;
}

int64_t monograph_tokenize(monograph_model *model, const char *text, int64_t *ids, size_t capacity) {
    Tokenization wanted = {.model = model, .text = text, .ids = ids, .capacity = capacity, .count = -1};
    start_call(&wanted.call);
    attempt(&wanted.call.trap, tokenize_text, &wanted);
    end_call(&wanted.call);
    return wanted.count;
}

/* A call of monograph_verify. */
typedef struct {
    Call call;
    const monograph_model *model;
    monograph_report *report;
} Verification;

static void verify_probes(void *argument) {
    Verification *verification = argument;
    verify_all(&verification->call, verification->model, verification->report);
}

monograph_status monograph_verify(monograph_model *model, monograph_report *report) {
    Verification verification = {.model = model, .report = report};
    start_call(&verification.call);
    attempt(&verification.call.trap, verify_probes, &verification);
    end_call(&verification.call);
    return last_status;
}
