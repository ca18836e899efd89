from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0014_from_github"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelcall",
            name="refused",
            field=models.CharField(blank=True, max_length=20),
        ),
    ]
