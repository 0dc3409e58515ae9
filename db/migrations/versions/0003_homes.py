"""Several homes may use one database: a job belongs to the home whose inbox it came from

A migration does not know which home that was, so the jobs that are here get none, and the home that the database lies in
takes them when it registers (svid.store.homes).
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "home",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("job", sa.Column("home", sa.String(length=16), nullable=False, server_default=""))
