from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def keep_choices(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("tasks", "User").objects.filter(hides_whitespace=True).update(diff_whitespace="all")


def keep_choices_back(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("tasks", "User").objects.exclude(diff_whitespace="").update(hides_whitespace=True)


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0026_artifacts"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="diff_whitespace",
            field=models.CharField(
                blank=True,
                choices=[("", "Show its changes"), ("amount", "Hide changes of its amount"), ("all", "Hide all its changes")],
                default="",
                max_length=10,
            ),
        ),
        migrations.RunPython(keep_choices, keep_choices_back),
        migrations.RemoveField(model_name="user", name="hides_whitespace"),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("diff_whitespace__in", ["", "amount", "all"])), name="user_diff_whitespace_known"
            ),
        ),
    ]
