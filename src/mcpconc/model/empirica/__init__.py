"""Everything that mcpconc knows of Empirica's meaning."""

from mcpconc.model.empirica.answers import interpret
from mcpconc.model.empirica.spec import MODELLED, SPEC, TOKEN_FIELDS

__all__ = ["MODELLED", "SPEC", "TOKEN_FIELDS", "interpret"]
