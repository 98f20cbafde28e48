"""The engine of a GPU: state of all sessions in tables on the device, a step is a few batched operations.

Every operation is done for all frames of a step at once, and the host waits for the device twice: for what
gates decide on, and for the answers.
"""
