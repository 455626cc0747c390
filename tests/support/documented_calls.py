"""The calls of sentence-transformers 6.2's README, quickstart and usage pages, written down anew and without training.

Each statement of a page is one line of the count. Names in capitals stand for the models of the pages, and are those of
a checkpoint or of its bundle; texts are ours. A page is run from its first statement to its last in one namespace.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
CORPUS = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A man is riding a horse.",
    "A woman is playing the violin.",
    "Two men pushed carts through the woods.",
    "A monkey is playing drums.",
    "A cheetah is running behind its prey.",
]
QUERY = "How many people live in Berlin?"
PASSAGES = [
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "Berlin has a yearly total of about 135 million day visitors.",
    "In 2013 around 600,000 Berliners were registered in one of the sports clubs.",
]

PAGES: Mapping[str, str] = {
    "Quickstart: Sentence Transformer": """
model = SentenceTransformer(EMBEDDING)
embeddings = model.encode(SENTENCES)
print(embeddings.shape)
similarities = model.similarity(embeddings, embeddings)
print(similarities)
""",
    "Quickstart: Cross Encoder": """
model = CrossEncoder(RERANKER)
ranks = model.rank(QUERY, PASSAGES)
for rank in ranks: print(f"{rank['score']:.2f}", PASSAGES[rank["corpus_id"]])
sentence_combinations = [[QUERY, passage] for passage in PASSAGES]
scores = model.predict(sentence_combinations)
ranked_indices = np.argsort(scores)[::-1]
print(scores[ranked_indices])
""",
    "Quickstart: Sparse Encoder": """
model = SparseEncoder(SPARSE)
embeddings = model.encode(SENTENCES)
print(embeddings.shape)
similarities = model.similarity(embeddings, embeddings)
print(similarities)
stats = SparseEncoder.sparsity(embeddings)
print(f"Sparsity: {stats['sparsity_ratio']:.2%}", f"{stats['active_dims']:.2f}")
""",
    "Embeddings: initializing": """
model = SentenceTransformer(EMBEDDING, device="cpu")
model = SentenceTransformer(EMBEDDING, trust_remote_code=False, local_files_only=True)
model = SentenceTransformer(EMBEDDING, cache_folder=FOLDER, token=False)
dimension = model.get_embedding_dimension()
""",
    "Embeddings: arguments": """
model = SentenceTransformer(EMBEDDING)
embeddings = model.encode(inputs=SENTENCES, batch_size=32, show_progress_bar=False)
one = model.encode("The weather is lovely today.")
tensor = model.encode(SENTENCES, convert_to_tensor=True)
listed = model.encode(SENTENCES, convert_to_numpy=False)
unit = model.encode(SENTENCES, normalize_embeddings=True)
array = model.encode(SENTENCES, output_value="sentence_embedding", convert_to_numpy=True, device="cpu")
query_embeddings = model.encode_query(QUERY)
document_embeddings = model.encode_document(PASSAGES)
similarities = model.similarity(query_embeddings, document_embeddings)
""",
    "Embeddings: prompts": """
prompts = {"classification": "Classify the following text: ", "retrieval": "Retrieve semantically similar text: "}
model = SentenceTransformer(EMBEDDING, prompts=prompts, default_prompt_name="retrieval")
by_default = model.encode(QUERY)
by_name = model.encode(QUERY, prompt_name="classification")
by_prompt = model.encode(QUERY, prompt="Cluster: ")
model.default_prompt_name = "classification"
changed = model.encode(QUERY)
model.prompts = {"query": "query: ", "classification": "Classify: "}
print(model.prompts["query"])
query = model.encode_query(QUERY)
""",
    "Embeddings: input sequence length": """
model = SentenceTransformer(EMBEDDING)
print("Max Sequence Length:", model.max_seq_length)
model.max_seq_length = 20
print("Max Sequence Length:", model.get_max_seq_length())
embedding = model.encode("The weather is lovely today, and it has been so for a week. " * 4)
token_ids = model.tokenizer("The weather is lovely today.")["input_ids"]
tokens = model.tokenizer.convert_ids_to_tokens(token_ids)
input_ids = model.tokenize(SENTENCES)["input_ids"]
print(input_ids.shape)
""",
    "Embeddings: several processes": """
model = SentenceTransformer(EMBEDDING)
pool = model.start_multi_process_pool(target_devices=DEVICES)
embeddings = model.encode(SENTENCES, pool=pool, chunk_size=2)
model.stop_multi_process_pool(pool)
devices = model.encode(SENTENCES, device=DEVICES)
""",
    "Semantic textual similarity": """
model = SentenceTransformer(EMBEDDING)
embeddings1 = model.encode(SENTENCES)
embeddings2 = model.encode(CORPUS[:3])
similarities = model.similarity(embeddings1, embeddings2)
for i, sentence in enumerate(SENTENCES): print(sentence, [f"{similarities[i][j]:.4f}" for j in range(3)])
pairs = model.similarity_pairwise(embeddings1, embeddings2)
model = SentenceTransformer(EMBEDDING, similarity_fn_name=SimilarityFunction.DOT_PRODUCT)
print(model.similarity_fn_name)
model.similarity_fn_name = SimilarityFunction.MANHATTAN
manhattan = model.similarity(embeddings1, embeddings1)
""",
    "Semantic search": """
embedder = SentenceTransformer(EMBEDDING)
corpus_embeddings = embedder.encode_document(CORPUS, convert_to_tensor=True)
query_embedding = embedder.encode_query("A man is eating pasta.", convert_to_tensor=True)
similarity_scores = embedder.similarity(query_embedding, corpus_embeddings)[0]
scores, indices = torch.topk(similarity_scores, k=5)
for score, idx in zip(scores, indices): print(CORPUS[idx], f"(Score: {score:.4f})")
hits = util.semantic_search(query_embedding, corpus_embeddings, score_function=util.dot_score)
hits = util.semantic_search(query_embedding, corpus_embeddings, top_k=5)[0]
for hit in hits: print(CORPUS[hit["corpus_id"]], f"(Score: {hit['score']:.4f})")
""",
    "Retrieve and re-rank": """
bi_encoder = SentenceTransformer(EMBEDDING)
bi_encoder.max_seq_length = 256
cross_encoder = CrossEncoder(RERANKER)
corpus_embeddings = bi_encoder.encode(PASSAGES, convert_to_tensor=True, show_progress_bar=False)
question_embedding = bi_encoder.encode(QUERY, convert_to_tensor=True)
hits = util.semantic_search(question_embedding, corpus_embeddings, top_k=3)[0]
cross_inp = [[QUERY, PASSAGES[hit["corpus_id"]]] for hit in hits]
cross_scores = cross_encoder.predict(cross_inp)
for idx in range(len(cross_scores)): hits[idx]["cross-score"] = cross_scores[idx]
hits = sorted(hits, key=lambda x: x["cross-score"], reverse=True)
""",
    "Clustering and communities": """
embedder = SentenceTransformer(EMBEDDING)
corpus_embeddings = embedder.encode(CORPUS)
labels = KMeans(n_clusters=3, random_state=0, n_init=1).fit(corpus_embeddings).labels_
corpus_embeddings = embedder.encode(CORPUS, batch_size=64, show_progress_bar=False, convert_to_tensor=True)
clusters = util.community_detection(corpus_embeddings, min_community_size=2, threshold=0.4)
""",
    "Paraphrase mining": """
model = SentenceTransformer(EMBEDDING)
paraphrases = util.paraphrase_mining(model, CORPUS)
for paraphrase in paraphrases[0:3]: print(CORPUS[paraphrase[1]], CORPUS[paraphrase[2]], f"{paraphrase[0]:.4f}")
""",
    "Translated sentence mining": """
model = SentenceTransformer(EMBEDDING)
source = model.encode(SENTENCES, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True)
target = model.encode(CORPUS[:3], show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True)
scores = util.cos_sim(source, target)
""",
    "Embedding quantization": """
model = SentenceTransformer(EMBEDDING)
binary_embeddings = model.encode(SENTENCES, precision="binary")
embeddings = model.encode(SENTENCES)
binary_afterwards = quantize_embeddings(embeddings, precision="binary")
calibration_embeddings = model.encode(CORPUS)
int8_embeddings = quantize_embeddings(embeddings, precision="int8", calibration_embeddings=calibration_embeddings)
int8_of_this_call = model.encode(CORPUS, precision="int8")
""",
    "Matryoshka embeddings": """
model = SentenceTransformer(EMBEDDING, truncate_dim=64)
embeddings = model.encode(SENTENCES)
print(model.get_sentence_embedding_dimension())
similarities = model.similarity(embeddings[0], embeddings[1:])
with model.truncate_embeddings(truncate_dim=16): shorter = model.encode(SENTENCES)
with model.truncate_sentence_embeddings(truncate_dim=32): former = model.encode(SENTENCES)
by_call = model.encode(SENTENCES, truncate_dim=8)
""",
    "Evaluation": """
model = SentenceTransformer(EMBEDDING)
evaluator = EmbeddingSimilarityEvaluator(SENTENCES, CORPUS[:3], [0.1, 0.9, 0.4], name="dev", write_csv=False)
results = evaluator(model)
results = model.evaluate(evaluator)
""",
    "Cross encoder: usage": """
model = CrossEncoder(RERANKER, max_length=48, device="cpu")
scores = model.predict([(QUERY, passage) for passage in PASSAGES])
one = model.predict([QUERY, PASSAGES[0]])
tensor = model.predict([(QUERY, passage) for passage in PASSAGES], convert_to_tensor=True)
logits = model.predict([(QUERY, passage) for passage in PASSAGES], activation_fn=torch.nn.Identity())
ranks = model.rank(QUERY, PASSAGES, top_k=2, return_documents=True)
ranks = model.rank(QUERY, PASSAGES, batch_size=8, show_progress_bar=False, prompt="search: ")
model = CrossEncoder(RERANKER, num_labels=1, activation_fn=torch.nn.Sigmoid())
sigmoids = model.predict([(QUERY, passage) for passage in PASSAGES], apply_softmax=False)
tanh = model.predict([(QUERY, passage) for passage in PASSAGES], activation_fn=torch.nn.Tanh())
""",
    "Sparse encoder: usage": """
model = SparseEncoder(SPARSE, max_active_dims=64)
embeddings = model.encode(SENTENCES)
query_embeddings = model.encode_query(QUERY)
document_embeddings = model.encode_document(PASSAGES)
similarities = model.similarity(query_embeddings, document_embeddings)
decoded = model.decode(document_embeddings, top_k=10)
for token, weight in decoded[0]: print(token, f"{weight:.4f}")
few = model.encode(SENTENCES, max_active_dims=16)
dense = model.encode(SENTENCES, convert_to_sparse_tensor=False)
listed = model.encode(SENTENCES, convert_to_tensor=False, save_to_cpu=True)
shared = model.decode(model.intersection(model.encode_query(QUERY), document_embeddings), top_k=5)
""",
    "Sparse encoder: semantic search": """
sparse_model = SparseEncoder(SPARSE)
corpus_embeddings = sparse_model.encode_document(CORPUS, convert_to_sparse_tensor=True, batch_size=16)
query_embedding = sparse_model.encode_query(CORPUS[0], show_progress_bar=False)
similarity_scores = sparse_model.similarity(query_embedding, corpus_embeddings)[0]
hits = util.semantic_search(query_embedding, corpus_embeddings, top_k=3, score_function=sparse_model.similarity)
hits = util.semantic_search(query_embedding, corpus_embeddings, top_k=3, score_function=util.dot_score)
""",
    "Speeding up inference": """
model = SentenceTransformer(EMBEDDING)
embeddings = model.encode(SENTENCES, batch_size=2)
model.half()
model = SentenceTransformer(EMBEDDING, model_kwargs={"dtype": "bfloat16"})
reranker = CrossEncoder(RERANKER, backend=BACKEND)
scores = reranker.predict([(QUERY, passage) for passage in PASSAGES])
model = SentenceTransformer(EMBEDDING, backend=BACKEND)
embeddings = model.encode(SENTENCES)
model.save_pretrained(FOLDER)
""",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a statement: its text, the error that it raised, None if it ran, and copies of what it set."""

    statement: str
    error: Exception | None
    results: Mapping[str, Any]


def statements(page: str) -> Iterator[str]:
    """Yield the statements of a page as text, one a line."""
    source = PAGES[page]
    for node in ast.parse(source).body:
        yield ast.get_source_segment(source, node) or ""


def variables(statement: str) -> set[str]:
    """Return the variables that a statement sets, or sets a part of."""
    names = set()
    for node in ast.walk(ast.parse(statement)):
        targets = [node.target] if isinstance(node, ast.For) else node.targets if isinstance(node, ast.Assign) else []
        # The variable of a part, such as hits[0]["score"]; what chooses the part is read.
        names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def run(page: str, names: Mapping[str, Any], without: Collection[str]) -> list[Outcome]:
    """Run a page where ``names`` are defined; ``without`` are variables that are no results."""
    namespace = dict(names) | {"SENTENCES": SENTENCES, "CORPUS": CORPUS, "QUERY": QUERY, "PASSAGES": PASSAGES}
    outcomes = []
    for statement in statements(page):
        error, results = None, {}
        try:
            exec(statement, namespace)  # noqa: S102  # the pages above
            results = {name: copy.deepcopy(namespace[name]) for name in sorted(variables(statement) - set(without))}
        except Exception as raised:  # noqa: BLE001  # whatever a call of a user may raise is what is counted
            error = raised
        outcomes.append(Outcome(statement, error, results))
    return outcomes
