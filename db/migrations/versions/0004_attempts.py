"""An attempt says by which memory plan its model was placed, and how far the segment in flight had got when it died"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("attempt", sa.Column("memory", sa.String(20)))
    op.add_column("attempt", sa.Column("reached", sa.JSON()))
