"""Put the modules of a checkpoint behind an encoder that is an ONNX file already, without torch.

Each module is written twice, in NumPy and as ONNX operators, so that the graph is compared with something that it was
not made of.
"""
