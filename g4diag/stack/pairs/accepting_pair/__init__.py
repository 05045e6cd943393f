"""A tiny Gemma-4 target and assistant with weights written by hand, so that drafts are accepted.

    task.py     what the pair does: the tokens, the prompts, their right continuation (standard library only)
    circuit.py  one attention layer as queries, keys, values and an output, by hand
    weights.py  the target's and the assistant's tensors, by their checkpoint names
    models.py   both as sglang's own model classes, on the CPU
    files.py    both as folders that a server loads; `python -m g4diag.stack.pairs.accepting_pair FOLDER`

Constructed, not trained. What it is for: accept length as an instrument. Random weights accept nothing, so a draft
that reads wrong K/V looks like one that reads the right K/V; here the accept length falls with the share of wrong
pages, in the sliding layers and in the full one alike.
"""
