import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0017_patch_tree")]

    operations = [
        migrations.CreateModel(
            name="Check",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("base_commit", models.CharField(max_length=64)),
                ("command", models.TextField()),
                ("backend", models.CharField(max_length=20)),
                ("is_restricted", models.BooleanField(default=False)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("under_way", "Under way"),
                            ("passed", "Passed"),
                            ("failed", "Failed"),
                            ("errored", "Could not run"),
                            ("canceled", "Stopped"),
                        ],
                        default="under_way",
                        max_length=20,
                    ),
                ),
                ("error", models.TextField(blank=True)),
                ("exit_code", models.IntegerField(blank=True, null=True)),
                ("seconds", models.FloatField(blank=True, null=True)),
                ("output", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "base",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="dependents",
                        to="tasks.check",
                    ),
                ),
                (
                    "patch",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="checks",
                        to="tasks.patch",
                    ),
                ),
                ("repo", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="checks", to="tasks.repo")),
                (
                    "run",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="checks",
                        to="tasks.run",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("status", "under_way")), fields=["id"], name="check_under_way")],
                "constraints": [
                    models.UniqueConstraint(
                        models.F("patch"),
                        django.db.models.functions.text.MD5("command"),
                        condition=models.Q(("patch__isnull", False)),
                        name="check_once_per_patch",
                    ),
                    models.UniqueConstraint(
                        models.F("repo"),
                        models.F("base_commit"),
                        models.F("backend"),
                        models.F("is_restricted"),
                        django.db.models.functions.text.MD5("command"),
                        condition=models.Q(("patch__isnull", True)),
                        name="check_once_per_base",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["under_way", "passed", "failed", "errored", "canceled"])),
                        name="check_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("patch__isnull", True), ("base__isnull", False), _connector="OR"),
                        name="check_of_patch_has_base",
                    ),
                ],
            },
        ),
    ]
