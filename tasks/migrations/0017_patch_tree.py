from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0016_headers_on_the_way_out")]

    operations = [
        migrations.AddField(
            model_name="patch",
            name="tree",
            field=models.CharField(blank=True, max_length=64),
        ),
    ]
