"""Make a loaded model smaller before it is traced, and measure what that costs it.

Every step replaces modules of the model by smaller ones that compute in torch what their graph will. So the graph is
still compared with torch, rounding for rounding, and the task's quality metric compares the smaller model with the
original.
"""
