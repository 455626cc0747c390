/* monograph: embed texts with a bundle, from C.
 *
 * A bundle is a folder that `monograph export` writes; docs/reference/bundle-format.md specifies it. This reader runs its
 * graph on the CPU with ONNX Runtime (1.24 or later) and needs nothing else. It reads bundles of the task "embedding"
 * without routes, whose tokenizer is WordPiece, Unigram, WordLevel or BPE.
 *
 *     monograph_model *model = monograph_open("minilm", NULL);
 *     if (model == NULL) {
 *         fprintf(stderr, "%s\n", monograph_last_error());
 *         return 1;
 *     }
 *     const char *texts[] = {"A harbour at dawn.", "Ships wait."};
 *     float *vectors = malloc(2 * monograph_dimension(model) * sizeof *vectors);
 *     if (monograph_encode(model, texts, 2, NULL, vectors) != MONOGRAPH_OK) { ... }
 *     monograph_close(model);
 *
 * A model may be used by many threads at once, but for monograph_close. Texts are UTF-8 and end in a zero.
 */
#ifndef MONOGRAPH_H
#define MONOGRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct monograph_model monograph_model;

typedef enum {
    MONOGRAPH_OK = 0,
    MONOGRAPH_BUNDLE_ERROR = 1, /* the bundle is damaged, or has what this reader does not support */
    MONOGRAPH_DEVICE_ERROR = 2, /* ONNX Runtime is missing or cannot run the graph */
    MONOGRAPH_INPUT_ERROR = 3,  /* an argument is not usable */
    MONOGRAPH_MEMORY_ERROR = 4,
} monograph_status;

typedef struct {
    int threads;             /* of ONNX Runtime; 0 for one */
    bool check_weights;      /* compare the weights' SHA-256, too, which takes seconds a gigabyte */
    const char *onnxruntime; /* the library; NULL for $MONOGRAPH_ONNXRUNTIME, or else libonnxruntime.so.1 */
} monograph_options;

typedef struct {
    const char *prompt_name; /* a name among the manifest's prompts; NULL for the default prompt */
    const char *prompt;      /* the prompt itself, "" for none; NULL for that of prompt_name */
    int truncate_dim;        /* columns to keep; 0 for the manifest's default */
    bool normalize;          /* bring each vector to length 1, after truncation */
} monograph_encode_options;

/* How far the outputs are from the reference, for one way of batching the probes. */
typedef struct {
    const char *name;
    double max_abs_difference, worst_cosine;
    int worst_tokens; /* the length of the probe that differs most */
} monograph_case;

enum { MONOGRAPH_CASES = 4 };

typedef struct {
    bool passed;
    int probes;
    double max_abs_difference, worst_cosine; /* the worst of all cases */
    double tolerance;                        /* of the difference; or of the cosine, if by_cosine */
    bool by_cosine;
    char reason[256]; /* why it failed, "" if it passed */
    int case_count;
    monograph_case cases[MONOGRAPH_CASES];
} monograph_report;

/* Open a bundle; every check of the specification is made. Return NULL on failure. `options` may be NULL. */
monograph_model *monograph_open(const char *folder, const monograph_options *options);

/* Free a model; NULL is allowed. */
void monograph_close(monograph_model *model);

/* Return why the last call of this thread failed: one line, valid until the next call. */
const char *monograph_last_error(void);

/* Return the status of the last call of this thread. */
monograph_status monograph_last_status(void);

/* Return the columns of a vector, with the manifest's truncation. */
size_t monograph_dimension(const monograph_model *model);

/* Return the maximum number of tokens of a text, special tokens included; 0 if texts are not truncated. */
size_t monograph_max_length(const monograph_model *model);

/* Embed texts into `vectors`, float32 [count, truncate_dim or monograph_dimension], in the order of the texts.
 * `options` may be NULL. */
monograph_status monograph_encode(monograph_model *model, const char *const *texts, size_t count,
                                  const monograph_encode_options *options, float *vectors);

/* Write the token ids of a text, special tokens included, to `ids`, which has room for `capacity`; no prompt is added.
 * Return their number, which may be larger than `capacity`, or -1 on failure. */
int64_t monograph_tokenize(monograph_model *model, const char *text, int64_t *ids, size_t capacity);

/* Run the bundle's own probes and compare with their reference. A bundle that fails is no error: see `passed`. */
monograph_status monograph_verify(monograph_model *model, monograph_report *report);

#ifdef __cplusplus
}
#endif

#endif
