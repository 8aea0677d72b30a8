def state():
    return "high"
