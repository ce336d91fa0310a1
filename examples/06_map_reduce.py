"""Map and reduce: count the words of many texts, in two ways that give the same answer.

    python examples/06_map_reduce.py

The texts are the docstrings of the standard library's modules named below.  Returning partial counts
is the faster way, and the one to prefer; a `SharedDict` is for counts that must be seen while the
work is going on, or that do not fit into one answer.
"""

import ast
import importlib
import re
from collections import Counter
from functools import partial, reduce
from operator import add

from parmap import SharedDict, parallel_map

MODULES = ["argparse", "bisect", "csv", "heapq", "json", "random", "shelve", "textwrap"]
WORDS = {"the", "of", "return", "list", "file", "value", "item", "key"}


def docstrings(module: str) -> str:
    """The map's input: the text of every docstring in a module."""
    source = importlib.import_module(module).__file__ or ""
    with open(source, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n".join(ast.get_docstring(node) or "" for node in nodes)


def words_in(text: str) -> Counter[str]:
    return Counter(word for word in re.findall(r"[a-z]+", text.lower()) if word in WORDS)


# 1. Map, and reduce what came back.  Nothing is shared, so nothing can be lost.
texts = [docstrings(module) for module in MODULES]
returned = reduce(add, parallel_map(words_in, texts, max_workers=2))

# 2. Every worker adds to one dict while it goes on.  `update_item` is one step for all processes.
shared = SharedDict[str, int]()


def add_words(text: str) -> None:
    for word, count in words_in(text).items():
        shared.update_item(word, partial(add, count), 0)


parallel_map(add_words, texts, max_workers=2)

print("both ways agree:", shared == returned)
print("and so does a plain loop:", shared == sum(map(words_in, texts), Counter()))
print("words that were found:", *sorted(shared))
print("'the' is the most frequent:", max(shared, key=shared.__getitem__) == "the")
