from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0015_modelcall_refused")]

    operations = [
        migrations.AddField(
            model_name="creationbucket",
            name="no_headers_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="sandbox",
            name="adds_headers",
            field=models.BooleanField(default=True),
        ),
    ]
