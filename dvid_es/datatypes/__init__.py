"""The datatypes of this server: one folder and one line each."""

from dvid_es.datatypes.annotation import ANNOTATION
from dvid_es.datatypes.imageblk import IMAGEBLK
from dvid_es.datatypes.imagetile import IMAGETILE
from dvid_es.datatypes.keyvalue import KEYVALUE
from dvid_es.datatypes.labelarray import LABELARRAY
from dvid_es.datatypes.labelblk import LABELBLK
from dvid_es.datatypes.labelmap import LABELMAP
from dvid_es.datatypes.labelsz import LABELSZ
from dvid_es.datatypes.labelvol import LABELVOL
from dvid_es.datatypes.neuronjson import NEURONJSON
from dvid_es.datatypes.roi import ROI
from dvid_es.datatypes.tarsupervoxels import TARSUPERVOXELS
from dvid_es.http.datatype import Datatype

# Folds run in this order: labelmap's write the blocks, those of the other label types follow.
DATATYPES: tuple[Datatype, ...] = (
    KEYVALUE,
    LABELMAP,
    LABELARRAY,
    LABELBLK,
    LABELVOL,
    ROI,
    ANNOTATION,
    TARSUPERVOXELS,
    NEURONJSON,
    LABELSZ,
    *IMAGEBLK,
    IMAGETILE,
)
