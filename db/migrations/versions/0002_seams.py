"""What a seam leaves out belongs to the segment that follows; some frames are blended

The frames that a segment gives up at its end because another repeats them were noted with the segment itself. Where the
one that follows has another recipe they were not its own, so they are noted with that one now. All segments of a chain
had the same number until here, so a rename keeps what every stored video shows; a first segment's own is not looked at.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Not by Alembic's batches: they drop the table, which other tables' foreign keys point at.
    op.execute("ALTER TABLE segment RENAME COLUMN tail_trim TO parent_trim")
    op.add_column("segment", sa.Column("blend", sa.Integer(), nullable=False, server_default="0"))
