"""The standard library's PCM arithmetic, imported without its farewell notice.

`audioop` left the standard library with Python 3.13, where audioop-lts puts the same C code
under the same name. It needs no memory to speak of; numpy would cost an idle daemon 20 MB.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Deprecated without a successor; the package asks for audioop-lts where it is gone.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import audioop

__all__ = ["audioop"]
