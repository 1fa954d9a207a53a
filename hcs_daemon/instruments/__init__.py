"""How each vendor names files and what its metadata promises; `instrument_for` picks the one to use."""

from hcs_daemon.config import Watch
from hcs_daemon.errors import SettingsError
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.naming import Instrument
from hcs_daemon.instruments.pattern import Pattern


def instrument_for(watch: Watch) -> Instrument:
    """The instrument that the settings name. Raises SettingsError for one that is not read yet."""
    if watch.instrument == "pattern":
        return Pattern(watch.pattern)
    if watch.instrument in {"auto", "harmony"}:
        return Harmony()
    raise SettingsError(
        f'watch.instrument = "{watch.instrument}" is not read by this version',
        'it reads "harmony" (Opera Phenix, Operetta), and with "pattern" any name that a regular expression describes',
    )
