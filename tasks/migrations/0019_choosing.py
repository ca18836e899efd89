from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("tasks", "0018_checks")]

    operations = [
        migrations.AddField("run", "set_aside_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddConstraint(
            "run",
            models.UniqueConstraint(condition=Q(("chosen_at__isnull", False)), fields=("task",), name="run_one_chosen_per_task"),
        ),
    ]
