/* monograph-c: read a bundle from the command line. Exit codes: 0 success, 1 an error, in one line on stderr, 2 bad usage. */
#include "monograph.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: monograph-c verify BUNDLE [--json]     compare the bundle's probes with their reference\n"
    "       monograph-c embed BUNDLE [--prompt P]  lines of stdin to vectors, a JSON list a line\n"
    "       monograph-c tokenize BUNDLE            lines of stdin to token ids, a JSON list a line\n"
    "       monograph-c conformance BUNDLE         texts of stdin, each ended by a zero byte, to JSON: see tests/conformance\n"
    "options: --threads N (1)\n";

typedef struct {
    const char *command, *bundle, *prompt;
    bool json;
    int threads;
} Arguments;

static bool parse_arguments(int count, char **words, Arguments *arguments) {
    const char *places[2] = {NULL, NULL};
    int place = 0;
    *arguments = (Arguments){.threads = 1};
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--json") == 0) {
            arguments->json = true;
        } else if (strcmp(words[i], "--threads") == 0 && i + 1 < count) {
            arguments->threads = atoi(words[++i]);
        } else if (strcmp(words[i], "--prompt") == 0 && i + 1 < count) {
            arguments->prompt = words[++i];
        } else if (words[i][0] == '-' || place == 2) {
            return false;
        } else {
            places[place++] = words[i];
        }
    }
    arguments->command = places[0];
    arguments->bundle = places[1];
    return place == 2 && arguments->threads > 0;
}

static int report_error(void) {
    fprintf(stderr, "monograph-c: %s\n", monograph_last_error());
    return 1;
}

static int report_no_memory(void) {
    fprintf(stderr, "monograph-c: out of memory\n");
    return 1;
}

/* Texts that were read from stdin, end to end. */
typedef struct {
    char *bytes;
    const char **texts;
    size_t count;
} Texts;

static bool read_texts(Texts *texts, char end) {
    size_t length = 0, capacity = 0, count = 0;
    *texts = (Texts){0};
    for (;;) {
        if (length + 1 >= capacity) {
            capacity = capacity == 0 ? 1 << 16 : 2 * capacity;
            char *moved = realloc(texts->bytes, capacity);
            if (moved == NULL) {
                return false;
            }
            texts->bytes = moved;
        }
        size_t read = fread(texts->bytes + length, 1, capacity - length - 1, stdin);
        if (read == 0) {
            break;
        }
        length += read;
    }
    if (length > 0 && texts->bytes[length - 1] != end) {
        texts->bytes[length++] = end;
    }
    for (size_t i = 0; i < length; i++) {
        count += texts->bytes[i] == end;
    }
    texts->texts = malloc((count + 1) * sizeof *texts->texts);
    if (texts->texts == NULL) {
        return false;
    }
    const char *start = texts->bytes;
    for (size_t i = 0; i < length; i++) {
        if (texts->bytes[i] == end) {
            texts->bytes[i] = 0;
            texts->texts[texts->count++] = start;
            start = texts->bytes + i + 1;
        }
    }
    return true;
}

static void free_texts(Texts *texts) {
    free(texts->bytes);
    free(texts->texts);
}

static void print_string(const char *text) {
    putchar('"');
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\') {
            printf("\\%c", *text);
        } else if ((unsigned char)*text < ' ') {
            printf("\\u%04x", (unsigned char)*text);
        } else {
            putchar(*text);
        }
    }
    putchar('"');
}

static void print_vector(const float *vector, size_t width) {
    for (size_t k = 0; k < width; k++) {
        printf("%s%.9g", k == 0 ? "[" : ", ", (double)vector[k]);
    }
    putchar(']');
}

static void print_report(const monograph_report *report) {
    printf("tolerance: %s %.2e\n", report->by_cosine ? "cosine >=" : "max abs difference <=", report->tolerance);
    for (int i = 0; i < report->case_count; i++) {
        const monograph_case *one = &report->cases[i];
        printf("  %-22s max abs difference %.2e  worst cosine %.7f\n", one->name, one->max_abs_difference, one->worst_cosine);
    }
    if (report->passed) {
        printf("passed: %d probes\n", report->probes);
    } else {
        printf("FAILED: %s\n", report->reason);
    }
}

static void print_report_json(const monograph_report *report) {
    printf("{\"passed\": %s, \"probes\": %d, \"max_abs_difference\": %.9g, \"worst_cosine\": %.9g, \"reason\": ",
           report->passed ? "true" : "false", report->probes, report->max_abs_difference, report->worst_cosine);
    print_string(report->reason);
    printf(", \"cases\": [");
    for (int i = 0; i < report->case_count; i++) {
        const monograph_case *one = &report->cases[i];
        printf("%s{\"case\": ", i == 0 ? "" : ", ");
        print_string(one->name);
        printf(", \"max_abs_difference\": %.9g, \"worst_cosine\": %.9g, \"worst_tokens\": %d}", one->max_abs_difference,
               one->worst_cosine, one->worst_tokens);
    }
    printf("]}\n");
}

static int run_verify(monograph_model *model, const Arguments *arguments) {
    monograph_report report;
    if (monograph_verify(model, &report) != MONOGRAPH_OK) {
        return report_error();
    }
    (arguments->json ? print_report_json : print_report)(&report);
    return report.passed ? 0 : 1;
}

static bool print_ids(monograph_model *model, const char *text) {
    int64_t small[512], *ids = small, count = monograph_tokenize(model, text, small, 512);
    if (count > 512) {
        ids = malloc((size_t)count * sizeof *ids);
        count = ids == NULL ? -1 : monograph_tokenize(model, text, ids, (size_t)count);
    }
    for (int64_t i = 0; i < count; i++) {
        printf("%s%" PRId64, i == 0 ? "[" : ", ", ids[i]);
    }
    printf(count == 0 ? "[]" : "]");
    if (ids != small) {
        free(ids);
    }
    return count >= 0;
}

static int run_tokenize(monograph_model *model, const Texts *texts) {
    for (size_t i = 0; i < texts->count; i++) {
        if (!print_ids(model, texts->texts[i])) {
            return report_error();
        }
        putchar('\n');
    }
    return 0;
}

static int run_embed(monograph_model *model, const Texts *texts, const char *prompt) {
    enum { AT_ONCE = 256 };
    monograph_encode_options options = {.prompt_name = prompt};
    size_t width = monograph_dimension(model);
    float *vectors = malloc(AT_ONCE * width * sizeof *vectors);
    if (vectors == NULL) {
        return report_no_memory();
    }
    int code = 0;
    for (size_t start = 0, count; start < texts->count; start += count) {
        count = texts->count - start < AT_ONCE ? texts->count - start : AT_ONCE;
        if (monograph_encode(model, texts->texts + start, count, &options, vectors) != MONOGRAPH_OK) {
            code = report_error();
            break;
        }
        for (size_t i = 0; i < count; i++) {
            print_vector(vectors + i * width, width);
            putchar('\n');
        }
    }
    free(vectors);
    return code;
}

static int run_conformance(monograph_model *model, const Texts *texts) {
    size_t width = monograph_dimension(model), count = texts->count;
    float *alone = malloc((count + 1) * width * sizeof *alone), *batched = malloc((count + 1) * width * sizeof *batched);
    /* The vectors before any prompt, which the texts of the suite have already. */
    monograph_encode_options options = {.prompt = ""};
    if (alone == NULL || batched == NULL) {
        free(alone);
        free(batched);
        return report_no_memory();
    }
    monograph_status status = MONOGRAPH_OK;
    for (size_t i = 0; i < count && status == MONOGRAPH_OK; i++) {
        status = monograph_encode(model, texts->texts + i, 1, &options, alone + i * width);
    }
    if (status == MONOGRAPH_OK) {
        status = monograph_encode(model, texts->texts, count, &options, batched);
    }
    if (status == MONOGRAPH_OK) {
        printf("{\"ids\": [");
        for (size_t i = 0; i < count; i++) {
            printf(i == 0 ? "" : ", ");
            if (!print_ids(model, texts->texts[i])) {
                status = monograph_last_status();
            }
        }
        for (int round = 0; round < 2; round++) {
            printf("], \"%s\": [", round == 0 ? "alone" : "batched");
            for (size_t i = 0; i < count; i++) {
                printf(i == 0 ? "" : ", ");
                print_vector((round == 0 ? alone : batched) + i * width, width);
            }
        }
        printf("]}\n");
    }
    free(alone);
    free(batched);
    return status == MONOGRAPH_OK ? 0 : report_error();
}

static int run(monograph_model *model, const Arguments *arguments) {
    if (strcmp(arguments->command, "verify") == 0) {
        return run_verify(model, arguments);
    }
    Texts texts;
    bool is_conformance = strcmp(arguments->command, "conformance") == 0;
    if (!read_texts(&texts, is_conformance ? 0 : '\n')) {
        return report_no_memory();
    }
    int code = is_conformance                                   ? run_conformance(model, &texts)
               : strcmp(arguments->command, "tokenize") == 0 ? run_tokenize(model, &texts)
                                                                : run_embed(model, &texts, arguments->prompt);
    free_texts(&texts);
    return code;
}

int main(int count, char **words) {
    static const char *const COMMANDS[] = {"verify", "embed", "tokenize", "conformance"};
    Arguments arguments;
    bool is_known = false;
    if (parse_arguments(count, words, &arguments)) {
        for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
            is_known = is_known || strcmp(arguments.command, COMMANDS[i]) == 0;
        }
    }
    if (!is_known) {
        fputs(USAGE, stderr);
        return 2;
    }
    monograph_options options = {.threads = arguments.threads, .check_weights = strcmp(arguments.command, "verify") == 0};
    monograph_model *model = monograph_open(arguments.bundle, &options);
    if (model == NULL) {
        return report_error();
    }
    int code = run(model, &arguments);
    monograph_close(model);
    if (fflush(stdout) != 0) {
        fprintf(stderr, "monograph-c: cannot write (%s)\n", strerror(errno));
        return 1;
    }
    return code;
}
