"""How each system under measurement is loaded and called; a module has ``load(**options) -> Model``."""
