import sys; sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import export as E
from options import Options
from pathlib import Path

E.export(Options(Path('@RUN@/run14'),'cpu',None,None,8))
