"""The datatypes of this server: one folder and one line each."""

from dvid_es.datatypes.keyvalue import KEYVALUE
from dvid_es.datatypes.labelmap import LABELMAP
from dvid_es.http.datatype import Datatype

DATATYPES: tuple[Datatype, ...] = (KEYVALUE, LABELMAP)
