"""What `status` and the metrics sum over all segments is in an index: the rows themselves are kilobytes each"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index("segment_rendered", "segment", ["frames", "seconds"])
